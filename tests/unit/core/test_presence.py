"""When a binding was last heard, and its PINGs: of all engines together, in whatever order they registered."""

from itertools import permutations

import pytest

from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.pings import Pings
from relayd.core.presence import Hearer, Presence
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from tests.support.relays import ALICE_MOVED, BOB, BOB_AT, Relay, running


class Engine:
    """One that heard everybody at that time, and PINGs of everybody."""

    def __init__(self, heard_at: float, pings: Pings | None = None) -> None:
        self._heard_at, self._pings = heard_at, pings

    def last_heard(self, binding: Binding) -> float:
        return self._heard_at

    def pings(self, binding: Binding) -> Pings | None:
        return self._pings


def numbers(pings: Pings | None) -> tuple[int, int, int, int]:
    assert pings is not None
    return pings.last_ns, pings.heard, pings.missed, pings.jitter_sixteenths_ns


def alice() -> tuple[Relay, Binding]:
    relay = running()
    binding = relay.user().client_binding
    assert binding is not None
    return relay, binding


def test_with_the_engine_alone_it_is_what_that_heard() -> None:
    relay, binding = alice()
    assert relay.table.presence.last_heard(binding) == relay.now
    pings = relay.table.presence.pings(binding)
    assert pings is not None
    assert (pings.heard, pings.last_ns) == (1, int(relay.now * 1e9))


def test_who_answered_no_ping_has_none() -> None:
    relay = running()
    host = relay.user().session.host
    assert host is not None
    host.pings = None
    relay.table.presence.register(Engine(0.0))
    assert relay.table.presence.pings(host) is None


_ENGINES = (Engine(0.0), Engine(1000.5, Pings(int(1e12), 7, 2, 32)), Engine(1003.0, Pings(int(2e12), 4, 1, 48)))


@pytest.mark.parametrize("order", list(permutations(_ENGINES)))
def test_the_latest_of_all_counts_and_pings_are_added_up(order: tuple[Engine, ...]) -> None:
    relay, binding = alice()
    for engine in order:
        relay.table.presence.register(engine)
    assert relay.table.presence.last_heard(binding) == 1003.0
    assert numbers(relay.table.presence.pings(binding)) == (int(2e12), 1 + 7 + 4, 3, 48)
    binding.last_seen = 1004.0
    assert relay.table.presence.last_heard(binding) == 1004.0


def test_what_an_engine_knows_does_not_change_by_being_asked() -> None:
    _, binding = alice()
    presence, pings = Presence(), Pings(int(1e12), 7, 2, 32)
    presence.register(Engine(0.0, pings))
    assert numbers(presence.pings(binding)) == numbers(presence.pings(binding))
    assert numbers(pings) == (int(1e12), 7, 2, 32)


def test_one_that_unregistered_is_not_asked() -> None:
    relay, binding = alice()
    engine: Hearer = Engine(2000.0)
    relay.table.presence.register(engine)
    relay.table.presence.unregister(engine)
    assert relay.table.presence.last_heard(binding) == relay.now


def test_who_is_heard_by_another_engine_is_not_silent() -> None:
    relay = running()
    engine = Engine(relay.now + 20)
    relay.table.presence.register(engine)
    relay.now += 31
    relay.expire()
    assert sum(relay.table.bound) == 2
    relay.now += 20
    relay.expire()
    assert sum(relay.table.bound) == 0
    assert relay.table.sessions["game"].empty_since == relay.now


def test_who_is_heard_by_another_engine_can_neither_be_moved_nor_replaced() -> None:
    relay = Relay(Limits(rebind_after=0.5, host_timeout=5.0))
    relay.player_pings()
    relay.host_pings()
    relay.now += 10
    engine = Engine(relay.now)
    relay.table.presence.register(engine)
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ADDRESS_CONFLICT
    assert relay.host_pings(user=BOB, source=BOB_AT).verdict is Verdict.HOST_CONFLICT
    relay.table.presence.unregister(engine)
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED
    assert relay.host_pings(user=BOB, source=BOB_AT).verdict is Verdict.ANSWERED


def after_a_pause(seconds: float, *, says_so: bool = True) -> tuple[Relay, Binding]:
    """The process says every second that it runs, then stands."""
    relay, binding = alice()
    if says_so:
        relay.table.presence.awake(relay.now)
        relay.now += 1.0
        relay.table.presence.awake(relay.now)
    relay.now += seconds
    return relay, binding


def test_after_a_pause_nobody_is_silent_before_what_waits_was_read() -> None:
    relay, binding = after_a_pause(100.0)
    relay.expire()
    assert relay.user().client_binding is binding
    assert relay.player_pings().verdict is Verdict.ANSWERED
    assert relay.kinds().count(EventKind.USER_BOUND) == 2, "host and player, once each"


def test_after_a_pause_nobody_moves_or_takes_over_before_that_either() -> None:
    relay, _ = after_a_pause(20.0)
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ADDRESS_CONFLICT
    assert relay.host_pings(user=BOB, source=BOB_AT).verdict is Verdict.HOST_CONFLICT
    relay.now += 0.5
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED


def test_who_stays_silent_after_a_pause_is_unbound_in_time() -> None:
    relay, _ = after_a_pause(100.0)
    relay.expire()
    for _ in range(30):
        relay.now += 1.0
        relay.table.presence.awake(relay.now)
    relay.expire()
    assert relay.table.bound == [0, 0]


def test_where_nobody_says_that_it_runs_there_are_no_pauses() -> None:
    relay, _ = after_a_pause(100.0, says_so=False)
    relay.expire()
    assert relay.table.bound == [0, 0]


def test_a_busy_second_is_no_pause() -> None:
    relay, _ = after_a_pause(2.5)
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED
