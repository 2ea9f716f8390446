"""`python -m relayd.controlplane` is `relayd control-plane`."""

from relayd.controlplane.cli import control_plane

control_plane(prog_name="relayd control-plane")
