"""The control plane: the relay REST API, its store, the placement of sessions on relays, and webhooks.

Runs alone (`relayd control-plane`) or inside another process: make a `ControlPlane`, give it to `create_app`, and run
the app with `make_server`.
"""

from relayd.controlplane.api import create_app
from relayd.controlplane.models import Heartbeat, NodeRevision, NodeSessions
from relayd.controlplane.server import bind, make_server, open_control_plane, serve
from relayd.controlplane.service import ControlPlane

__all__ = [
    "ControlPlane",
    "Heartbeat",
    "NodeRevision",
    "NodeSessions",
    "bind",
    "create_app",
    "make_server",
    "open_control_plane",
    "serve",
]
