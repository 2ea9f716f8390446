"""Where memory is bounded: of too many, which one goes."""

import pytest

from relayd.core import table
from relayd.core.guesses import Guesses
from relayd.core.limits import Limits
from relayd.core.lookups import Lookups
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State
from tests.support.relays import ALICE, BOB, Relay, spec

FIRST, SECOND, THIRD = "198.51.100.1", "198.51.100.2", "198.51.100.3"


def test_of_sources_that_guess_the_one_first_heard() -> None:
    relay = Relay()
    session, bob = relay.table.sessions["game"], relay.user(BOB)
    guesses = Guesses(Limits(guesses_per_second=1000, guesses_per_source_per_second=1), most_sources=2)
    for source in (FIRST, SECOND):
        for wrong in range(3):
            guesses.note(session, wrong, source, relay.now)
    assert guesses.holds_back(bob, Port.CLIENT, (FIRST, 7), relay.now)
    guesses.note(session, 3, THIRD, relay.now)
    assert not guesses.holds_back(bob, Port.CLIENT, (FIRST, 7), relay.now)
    assert guesses.holds_back(bob, Port.CLIENT, (SECOND, 7), relay.now)


def test_of_sessions_that_ended_the_one_that_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_MOST_TOMBSTONES", 2)
    tokens = (11, 12, 13)
    relay = Relay(specs=[spec(f"game {token}", token) for token in tokens])
    for ended in range(len(tokens)):
        relay.apply(*(spec(f"game {token}", token) for token in tokens[ended + 1 :]))
    verdicts = [relay.player_pings(ALICE, session=token).verdict for token in tokens]
    assert verdicts == [Verdict.UNKNOWN_PAIR, Verdict.SESSION_ENDED, Verdict.SESSION_ENDED]


def test_of_pairs_that_were_said_no_to_the_first() -> None:
    lookups = Lookups(lambda: None, most=2)
    for user in (1, 2, 3):
        assert lookups.state_of(user, 9, 100.0) is State.CHECKING
        lookups.answered(lookups.asked(), 100.0)
    assert [lookups.state_of(user, 9, 101.0) for user in (3, 2, 1)] == [State.INVALID, State.INVALID, State.CHECKING]
