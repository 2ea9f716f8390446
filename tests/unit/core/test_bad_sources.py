"""Datagrams from where no peer can be are dropped, whatever they say, and never answered or bound to."""

import pytest

from relayd.core.bad_sources import BadSources
from relayd.core.endpoint import Address
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping
from tests.support.relays import ALICE, CLIENT, HOST, SERVER, SESSION, Relay

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
