"""What relays send and what the control plane reads are the same fields."""

from relayd.control_plane.models import Heartbeat
from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.session_source.control_plane.heartbeat import Heartbeats
from relayd.session_source.control_plane.link import Report, Version
from relayd.settings import RelaySettings


def fields(**relay: int) -> dict[str, object]:
    return Heartbeats(RelaySettings.model_validate(relay), Limits()).fields(
        Report(Version("e", 1), Load(0, False), ("session",))
    )


def test_a_relay_says_all_that_a_control_plane_reads_and_nothing_else() -> None:
    assert fields().keys() == Heartbeat.model_fields.keys(), "heartbeat.py at the relay, models.py at the control plane"


def test_the_ports_it_says_are_those_that_players_reach() -> None:
    bound = fields(server_port=1, client_port=2)
    assert (bound["server_port"], bound["client_port"]) == (1, 2)
    mapped = fields(server_port=1, client_port=2, public_server_port=40000)
    assert (mapped["server_port"], mapped["client_port"]) == (40000, 2)
