"""Memory stays flat whatever arrives, once what is remembered of it is full: it is measured, not reasoned."""

import gc
import random
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest

from relayd.core import desired, table
from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address
from relayd.core.guesses import Guesses
from relayd.core.limits import Limits, RefusalLimiter
from relayd.core.lookups import Lookups
from relayd.core.wire import encode_host_data, encode_ping, encode_player_data
from tests.support.relays import CLIENT, SERVER, Relay

SESSIONS = 50
USERS = 8
FLOOD = 5000
NOISE_BYTES = 600_000
"""Dictionaries grow and shrink by steps."""


def token(number: int) -> int:
    return 0x1000_0000 + number


def relay_with_games() -> Relay:
    specs = [
        SessionSpec(f"game-{number}", token(number), tuple(UserSpec(1 + user, None) for user in range(USERS)))
        for number in range(SESSIONS)
    ]
    limits = Limits(max_bound_users=200, refusals_per_second=1_000_000)
    relay = Relay(limits, specs, lookups=Lookups(lambda: None, most=2000))
    relay.engine.guesses = Guesses(relay.table.limits, most_sources=500, most_tried=500)
    relay.engine._refusals = RefusalLimiter(relay.table.limits, max_sources=500)
    return relay


def any_source(chance: random.Random) -> Address:
    if chance.random() < 0.3:
        return f"2001:db8:{chance.randrange(1 << 16):x}::1", 1 + chance.randrange(60_000), 0, 0
    address = chance.randrange(1 << 32)
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0)), chance.randrange(65_536)


def any_datagram(chance: random.Random) -> bytes:
    session = token(chance.randrange(SESSIONS)) if chance.random() < 0.7 else chance.randrange(1 << 32)
    user = 1 + chance.randrange(USERS) if chance.random() < 0.5 else chance.randrange(1 << 32)
    kind = chance.randrange(5)
    if kind == 0:
        return bytes(chance.randrange(9))
    if kind == 1:
        return encode_ping(user, session)
    if kind == 2:
        return encode_player_data(user, session, b"x" * chance.randrange(1400))
    if kind == 3:
        return encode_host_data(user, session, chance.randrange(1 << 31), b"x")
    return encode_ping(user, session)[:8] + bytes([chance.randrange(256)])


def flood(relay: Relay, chance: random.Random) -> None:
    for _ in range(FLOOD):
        relay.now += 0.001
        relay.send(chance.choice((SERVER, CLIENT)), any_datagram(chance), any_source(chance))
    while relay.expire():
        pass
    relay.events.clear()


def growth(step: Callable[[], None], warm_up: int) -> int:
    """Bytes by which memory is larger after a few more steps than after the first ones, which fill what is bounded."""
    tracemalloc.start()
    try:
        for _ in range(warm_up):
            step()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            step()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_a_flood_of_all_kinds_from_everywhere() -> None:
    relay, chance = relay_with_games(), random.Random(1)
    history = relay.table.history
    history._most_sessions, history._most_sources = 40, 100
    assert growth(lambda: flood(relay, chance), warm_up=3) < NOISE_BYTES
    assert len(history.sessions) <= 40
    assert len(history.strangers) == 100
    assert len(relay.engine.guesses._sources) == 500
    assert max(len(relay.engine.guesses._tried), len(relay.engine.guesses._above)) <= 500
    assert len(relay.engine._refusals._sources) == 500
    assert sum(relay.table.bound) <= 200


def test_sessions_that_come_and_go_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_MOST_TOMBSTONES", 100)
    monkeypatch.setattr(table, "_STALE_ENTRIES", 10)
    relay = Relay(specs=())
    relay.table.history._most_sessions = 100

    def churn(first: int) -> None:
        for number in range(first, first + 1500):
            spec = SessionSpec(f"game-{number}", token(number), (UserSpec(1, None),))
            relay.table.change(Change((spec,), (f"game-{number - 1}",)), relay.now)
            relay.send(CLIENT, encode_ping(1, token(number)), ("198.51.100.1", 7))
            relay.now += 0.0001
        relay.events.clear()

    numbers = count(1, 1500)
    assert growth(lambda: churn(next(numbers)), warm_up=1) < NOISE_BYTES
    assert len(relay.table._tombstones) == 100
    assert max(len(relay.table._silence), len(relay.table._idleness)) <= 2 + table._STALE_ENTRIES + 1


def test_who_is_still_there_is_not_forgotten_with_those_that_are_not() -> None:
    relay = Relay()
    relay.host_pings()
    for number in range(3000):
        spec = SessionSpec(f"other-{number}", token(number), (UserSpec(1, None),))
        relay.table.change(Change((spec,), (f"other-{number - 1}",)), relay.now)
        relay.send(CLIENT, encode_ping(1, token(number)), ("198.51.100.1", 7))
    relay.now += 31
    relay.expire()
    assert relay.table.bound == [0, 0]
    relay.now += 301
    relay.expire()
    assert not relay.table.sessions


@pytest.mark.parametrize(("sessions", "users"), [(3, 100), (100, 5)])
def test_a_source_that_names_too_many_is_refused(monkeypatch: pytest.MonkeyPatch, sessions: int, users: int) -> None:
    monkeypatch.setattr(desired, "MOST_SESSIONS", sessions)
    monkeypatch.setattr(desired, "MOST_USERS", users)

    def specs(many: int) -> list[SessionSpec]:
        return [
            SessionSpec(f"s{number}", token(number), (UserSpec(1, None), UserSpec(2, None))) for number in range(many)
        ]

    with pytest.raises(InvalidSessionsError, match="spread them over several relays"):
        Snapshot.of(specs(4))
    relay = Relay(specs=specs(2))
    with pytest.raises(InvalidSessionsError, match="spread them over several relays"):
        relay.table.change(Change(tuple(specs(4))), relay.now)
    assert len(relay.table.sessions) == 2
    # The same again is not more.
    relay.table.change(Change(tuple(specs(2))), relay.now)
