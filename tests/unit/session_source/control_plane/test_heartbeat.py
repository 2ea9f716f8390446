"""What relays send and what the control plane reads are the same fields."""

from relayd.control_plane.node_models import Heartbeat
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
    assert fields().keys() == Heartbeat.model_fields.keys(), (
        "heartbeat.py at the relay, node_models.py at the control plane"
    )


def test_the_ports_it_says_are_those_that_players_reach() -> None:
    bound = fields(server_port=1, client_port=2)
    assert (bound["server_port"], bound["client_port"]) == (1, 2)
    mapped = fields(server_port=1, client_port=2, public_server_port=40000)
    assert (mapped["server_port"], mapped["client_port"]) == (40000, 2)


def test_it_says_where_other_relays_could_see_datagrams_of_its_sockets_from() -> None:
    at = ("127.0.0.1", "::1", "fe80::1", "169.254.3.3", "10.0.0.7", "2001:4860::7", "203.0.113.7")
    beats = Heartbeats(RelaySettings.model_validate({"server_port": 1, "client_port": 2}), Limits())
    said = beats.fields(Report(None, Load(0, False, at), ()))
    assert said["own_addresses"] == ["2001:4860::7", "10.0.0.7", "203.0.113.7"]
    assert said["own_ports"] == [1, 2]
    assert Heartbeat.model_validate(said)


def test_it_says_no_more_addresses_than_are_taken() -> None:
    at = [f"10.0.{number}.1" for number in range(100)]
    said = Heartbeats(RelaySettings(), Limits()).fields(Report(None, Load(0, False, [*at, "2001:4860::7"]), ()))
    assert said["own_addresses"][0] == "2001:4860::7", "what others reach comes first"
    assert Heartbeat.model_validate(said)
