"""What is bounded forgets what is oldest, and what has ended leaves nothing for the garbage collector to find."""

import gc
from collections.abc import Iterator

import pytest

from relayd.core import table as table_module
from relayd.core.history import History
from relayd.core.limits import Limits
from relayd.core.lookups import Lookups
from relayd.core.session import Binding, Session, User
from relayd.core.verdict import Verdict
from relayd.core.wire import State
from tests.support.relays import SESSION, Relay, spec


@pytest.fixture
def no_collector() -> Iterator[None]:
    """As a relay runs: what is in cycles stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    return sum(type(one) in (Session, User, Binding) for one in gc.get_objects())


def play_and_end(relay: Relay, round_number: int, *, idle: bool) -> None:
    token = SESSION + round_number
    relay.apply(spec(f"game-{round_number}", token))
    relay.host_pings(session=token)
    relay.player_pings(session=token)
    relay.player_sends()
    if idle:
        for _ in range(2):
            relay.now += 1000.0
            while relay.expire():
                pass
    else:
        relay.apply()


@pytest.mark.parametrize("idle", [False, True], ids=["removed by its source", "ended for nobody was there"])
@pytest.mark.usefixtures("no_collector")
def test_an_ended_session_takes_its_users_and_bindings_with_it(idle: bool) -> None:
    relay = Relay(Limits(session_idle_timeout=60.0), ())
    play_and_end(relay, 0, idle=idle)
    relay.events.clear()
    before = alive()
    for number in range(1, 20):
        play_and_end(relay, number, idle=idle)
        relay.events.clear()
    # What has a timer still is dropped when that is due.
    relay.now += 10_000.0
    while relay.expire():
        pass
    assert alive() <= before


@pytest.mark.usefixtures("no_collector")
def test_a_session_that_ended_knows_nobody_any_more() -> None:
    relay = Relay()
    relay.player_pings()
    session = relay.table.sessions["game"]
    relay.apply()
    assert session.users == {}
    assert session.players == {}


def test_of_too_many_ended_sessions_the_one_that_ended_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_MOST_TOMBSTONES", 3)
    relay = Relay(specs=[spec(f"game-{number}", SESSION + number) for number in range(5)])
    for left in range(4, -1, -1):  # game-4 ends first
        relay.apply(*(spec(f"game-{number}", SESSION + number) for number in range(left)))
    remembered = [number for number in range(5) if relay.table.ended_recently(SESSION + number, relay.now)]
    assert remembered == [0, 1, 2]


def test_of_too_many_denied_pairs_the_one_denied_first_may_ask_again() -> None:
    lookups = Lookups(lambda: None, most=3)
    for pair in range(1, 5):
        assert lookups.state_of(pair, 9, 0.0) is State.CHECKING
        lookups.answered(lookups.asked(), 0.0)
    assert [lookups.state_of(pair, 9, 1.0) for pair in (2, 3, 4)] == [State.INVALID] * 3
    assert lookups.state_of(1, 9, 1.0) is State.CHECKING


def test_of_too_many_unknown_pairs_no_more_are_asked_about() -> None:
    asked: list[int] = []
    lookups = Lookups(lambda: asked.append(1), most=3)
    for pair in range(1, 4):
        lookups.state_of(pair, 9, 0.0)
    assert lookups.state_of(4, 9, 0.0) is State.INVALID
    assert lookups.state_of(1, 9, 0.0) is State.CHECKING, "asked about already"
    assert len(asked) == 3


def test_five_seconds_after_a_no_it_is_asked_again_and_stays_a_no_meanwhile() -> None:
    asked: list[int] = []
    lookups = Lookups(lambda: asked.append(1))
    lookups.state_of(1, 9, 0.0)
    lookups.answered(lookups.asked(), 10.0)
    assert lookups.state_of(1, 9, 14.9) is State.INVALID
    assert len(asked) == 1
    for _ in range(3):
        assert lookups.state_of(1, 9, 15.0) is State.INVALID
    assert len(asked) == 2
    lookups.answered(lookups.asked(), 15.0)
    assert lookups.state_of(1, 9, 19.9) is State.INVALID
    assert len(asked) == 2


def test_of_pairs_denied_again_the_one_denied_longest_ago_is_forgotten() -> None:
    lookups = Lookups(lambda: None, most=2)
    for pair, now in ((1, 0.0), (2, 0.0), (1, 5.0), (3, 5.0)):
        lookups.state_of(pair, 9, now)
        lookups.answered(lookups.asked(), now)
    assert [lookups.state_of(pair, 9, 6.0) for pair in (1, 3, 2)] == [State.INVALID, State.INVALID, State.CHECKING]


def test_what_was_not_yet_asked_about_is_not_denied_by_an_earlier_answer() -> None:
    lookups = Lookups(lambda: None)
    lookups.state_of(1, 9, 0.0)
    asked = lookups.asked()
    lookups.state_of(2, 9, 0.0)
    lookups.answered(asked, 1.0)
    assert lookups.asked() == {(2, 9)}


def bounded() -> Relay:
    """Remembers three sessions and three strangers."""
    relay = Relay(specs=[spec(f"game-{number}", SESSION + number) for number in range(5)])
    relay.table.history = History(relay.table.by_token, most_sessions=3, most_sources=3)
    return relay


def test_of_too_many_sessions_with_a_history_the_one_in_which_nothing_happened_longest_is_forgotten() -> None:
    relay = bounded()
    for number in (0, 1, 2, 0, 3):
        relay.now += 1.0
        relay.player_pings(user=4711, session=SESSION + number, source=("192.0.2.9", 1))
    assert set(relay.table.history.sessions) == {SESSION, SESSION + 2, SESSION + 3}


def test_of_too_many_strangers_the_one_longest_silent_is_forgotten() -> None:
    relay = bounded()
    for number in (1, 2, 3, 1, 4):
        relay.now += 1.0
        relay.player_pings(user=4711, session=9, source=(f"192.0.2.{number}", 1))
    assert set(relay.table.history.strangers) == {"192.0.2.1", "192.0.2.3", "192.0.2.4"}


def test_of_too_many_refusals_of_one_session_the_oldest_is_forgotten() -> None:
    relay = Relay()
    for number in range(200):
        relay.now += 1.0
        relay.player_pings(user=5000 + number, source=("192.0.2.9", 1))
    refused = [what.user_token for what, _ in relay.table.history.sessions[SESSION].refusals]
    assert refused
    assert set(refused) == set(range(5200 - len(refused), 5200))
    assert all(what.verdict is Verdict.UNKNOWN_PAIR for what, _ in relay.table.history.sessions[SESSION].refusals)
