"""Datagrams from where no peer can be are dropped, whatever they say, and never answered or bound to."""

import pytest

from relayd.core.bad_sources import BadSources
from relayd.core.endpoint import Address
from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping
from tests.support.relays import ALICE, BOB, BOB_AT, CLIENT, HOST, SERVER, SESSION, Relay

OWN = ("203.0.113.7", "127.0.0.1", "2001:db8::7")
BAD: list[Address] = [
    ("203.0.113.7", 32000),
    ("203.0.113.7", 32001),
    ("127.0.0.1", 32001),
    ("127.1.2.3", 32000),
    ("2001:db8::7", 32001, 0, 0),
    ("198.51.100.1", 0),
    ("224.0.0.1", 5000),
    ("239.255.255.255", 5000),
    ("255.255.255.255", 5000),
    ("240.0.0.1", 5000),
    ("0.0.0.0", 5000),
    ("0.1.2.3", 5000),
    ("::", 5000, 0, 0),
    ("ff02::1", 5000, 0, 0),
    ("FF0E::1", 5000, 0, 0),
]
GOOD: list[Address] = [
    ("203.0.113.7", 32002),
    ("127.0.0.1", 5000),
    ("198.51.100.1", 32000),
    ("223.255.255.255", 5000),
    ("2001:db8::7", 5000, 0, 0),
    ("2001:db8::8", 32000, 0, 0),
    ("fe80::1", 5000, 0, 2),
    ("::1", 5000, 0, 0),
]


def relay() -> Relay:
    made = Relay()
    made.engine.bad_sources.own_ports = (32000, 32001)
    made.engine.bad_sources.own_addresses = OWN
    return made


@pytest.mark.parametrize("source", BAD)
def test_bad(source: Address) -> None:
    one = relay()
    for endpoint, user in ((SERVER, HOST), (CLIENT, ALICE)):
        for session in (SESSION, 77):
            action = one.send(endpoint, encode_ping(user, session), source)
            assert (action.verdict, action.endpoint) == (Verdict.BAD_SOURCE, None)
    assert one.send(CLIENT, encode_ping(77, SESSION), source).verdict is Verdict.BAD_SOURCE
    assert one.table.bound == [0, 0]


@pytest.mark.parametrize("source", BAD)
def test_nobody_moves_there(source: Address) -> None:
    one = relay()
    one.player_pings()
    one.now += 5.0
    assert one.player_pings(source=source).verdict is Verdict.BAD_SOURCE
    assert one.player_pings().verdict is Verdict.ANSWERED


@pytest.mark.parametrize("source", GOOD)
def test_good(source: Address) -> None:
    assert relay().player_pings(source=source).verdict is Verdict.ANSWERED


def test_a_relay_that_is_not_on_loopback_leaves_it_alone() -> None:
    sources = BadSources(Limits())
    sources.own_ports, sources.own_addresses = (32000, 32001), ("203.0.113.7",)
    assert not sources.is_bad(("127.0.0.1", 32001))


# Other relays of the fleet ----------------------------------------------------------------------------------------

ELSEWHERE: Address = ("198.51.100.9", 32001)
ELSEWHERE_V6: Address = ("2001:db8::9", 32001, 0, 0)


def learn(one: Relay, *relays: tuple[str, int]) -> None:
    for _ in one.table.leave_relays(frozenset(relays), one.now):
        """At once."""


@pytest.mark.parametrize("place", [ELSEWHERE, ELSEWHERE_V6])
def test_nobody_is_let_in_from_another_relay(place: Address) -> None:
    one = relay()
    learn(one, ELSEWHERE[:2], ELSEWHERE_V6[:2])
    for endpoint, user in ((SERVER, HOST), (CLIENT, ALICE), (CLIENT, 77)):
        action = one.send(endpoint, encode_ping(user, SESSION), place)
        assert (action.verdict, action.endpoint) == (Verdict.BAD_SOURCE, None)
    assert one.player_pings().verdict is Verdict.ANSWERED
    one.now += 5.0
    assert one.player_pings(source=place).verdict is Verdict.BAD_SOURCE


@pytest.mark.parametrize("place", [("198.51.100.9", 32002), ("198.51.100.10", 32001)])
def test_another_port_there_or_that_port_elsewhere_is_anybodys(place: Address) -> None:
    one = relay()
    learn(one, ELSEWHERE[:2])
    assert one.player_pings(source=place).verdict is Verdict.ANSWERED


def test_whoever_is_bound_there_is_unbound_and_all_others_play_on() -> None:
    one = relay()
    one.host_pings()
    one.player_pings(source=ELSEWHERE)
    one.player_pings(BOB, BOB_AT)
    learn(one, ELSEWHERE[:2])
    assert one.user(ALICE).client_binding is None
    assert one.events[-1].kind is EventKind.USER_AT_RELAY
    assert (one.table.bound, one.user(BOB).client_binding is None) == ([1, 1], False)
    assert one.player_pings().verdict is Verdict.ANSWERED


def test_a_host_that_is_a_relay_makes_room_for_the_real_one() -> None:
    one = relay()
    one.host_pings(source=ELSEWHERE)
    learn(one, ELSEWHERE[:2])
    assert one.table.sessions["game"].host is None
    assert one.host_pings().verdict is Verdict.ANSWERED


def test_a_relay_that_is_gone_from_the_fleet_is_an_address_like_any_other() -> None:
    one = relay()
    learn(one, ELSEWHERE[:2])
    learn(one)
    assert one.player_pings(source=ELSEWHERE).verdict is Verdict.ANSWERED
