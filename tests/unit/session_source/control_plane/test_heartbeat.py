"""What relays send and what the control plane reads are the same fields."""

from relayd.control_plane.models import Heartbeat
from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.session_source.control_plane.heartbeat import Heartbeats
from relayd.session_source.control_plane.link import Report, Version
from relayd.settings import RelaySettings


def test_a_relay_says_all_that_a_control_plane_reads_and_nothing_else() -> None:
    said = Heartbeats(RelaySettings(), Limits()).fields(Report(Version("e", 1), Load(0, False), ("session",)))
    assert said.keys() == Heartbeat.model_fields.keys(), "heartbeat.py at the relay, models.py at the control plane"
