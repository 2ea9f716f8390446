"""What relays are told of each other."""

import pytest

from relayd.control_plane.fleet import roster
from relayd.control_plane.fleet.roster import Fleet
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.store.contract import NodeRecord

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)


def record(name: str, said: dict[str, object] | None = None, heard_at: float = 0.0) -> NodeRecord:
    return NodeRecord(name, BEAT.model_copy(update=said), heard_at, 0)


def test_a_relay_is_where_players_are_told_and_where_its_sockets_are() -> None:
    fleet = Fleet([record("n", {"own_addresses": ["10.0.0.7", "203.0.113.7"], "own_ports": [32000, 1]})])
    (one,) = fleet.sockets().relays
    assert (one.addresses, one.ports) == (["10.0.0.7", "203.0.113.7"], [1, 2, 32000])


def test_a_relay_that_is_silent_is_told_until_it_is_forgotten() -> None:
    fleet = Fleet([record("silent", heard_at=0.0), record("alive", heard_at=5000.0)])
    assert len(fleet.sockets().relays) == 2
    fleet.forget_silent(1000.0, [record("alive")])
    assert len(fleet.sockets().relays) == 1


@pytest.mark.parametrize(
    "changed",
    [{"ip": "203.0.113.9"}, {"client_port": 3}, {"own_addresses": ["10.0.0.7"]}, {"own_ports": [32000]}],
)
def test_it_has_another_name_when_a_socket_is_elsewhere_and_only_then(changed: dict[str, object]) -> None:
    fleet = Fleet([])
    names = [fleet.sockets().digest]
    fleet.heard(record("n"))
    names.append(fleet.sockets().digest)
    fleet.heard(record("n", {"load": 9, "draining": True}, heard_at=7.0))
    assert fleet.sockets().digest == names[-1], "else every heartbeat would be answered with all relays"
    fleet.heard(record("n", changed))
    names.append(fleet.sockets().digest)
    fleet.heard(record("m"))
    names.append(fleet.sockets().digest)
    assert len(set(names)) == 4


def test_of_very_many_relays_so_many_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MOST_RELAYS_TOLD", 2)
    fleet = Fleet([record(name, {"client_port": port}) for name, port in (("c", 33), ("a", 31), ("b", 32))])
    assert [one.ports for one in fleet.sockets().relays] == [[1, 31], [1, 32]]
