"""What ends by itself: silence, emptiness, remembrance; never more work at a time than the budget."""

import pytest

from relayd.core.desired import Change, Snapshot
from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from tests.support.relays import ALICE, ALICE_AT, BOB, BOB_AT, HOST, SESSION, Relay, spec


def test_a_silent_user_is_unbound_exactly_when_due() -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 29.75
    relay.expire()
    assert relay.user().client_binding is not None
    relay.now += 0.25
    relay.expire()
    assert relay.user().client_binding is None
    assert relay.kinds()[-1] is EventKind.USER_SILENT


def test_whoever_was_heard_last_early_on_does_not_wait_for_those_who_came_later() -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 5
    relay.player_pings()
    relay.now += 15
    relay.player_pings(BOB, BOB_AT)
    relay.now += 10
    relay.expire()
    assert relay.table.next_deadline() == 1035
    relay.now += 5
    relay.expire()
    assert relay.user(ALICE).client_binding is None
    assert relay.user(BOB).client_binding is not None


def test_a_session_empty_for_some_time_already_does_not_wait_for_those_added_later() -> None:
    relay = Relay(Limits(session_idle_timeout=40, user_timeout=10))
    relay.player_pings()
    relay.now += 10
    relay.expire()
    relay.now += 20
    relay.apply(spec(), spec("later", 77))
    relay.now += 10
    relay.expire()
    assert relay.table.next_deadline() == 1050
    relay.now += 10
    relay.expire()
    assert list(relay.table.sessions) == ["later"]


@pytest.mark.parametrize("heard_last", [ALICE, BOB])
def test_a_session_that_a_slow_reconciliation_empties_is_empty_since_anybody_was_heard(heard_last: int) -> None:
    relay = Relay(Limits(session_idle_timeout=40))
    at = {ALICE: ALICE_AT, BOB: BOB_AT}
    for user, address in at.items():
        relay.player_pings(user, address)
    steps = relay.table.reconcile(Snapshot.of([spec(users=[HOST])]), relay.now)
    next(steps)
    relay.now += 30
    relay.player_pings(heard_last, at[heard_last])
    assert list(steps)
    assert relay.user(HOST).session.bound == 0
    relay.now += 39
    relay.expire()
    assert list(relay.table.sessions) == ["game"]
    relay.now += 1
    relay.expire()
    assert not relay.table.sessions


@pytest.mark.parametrize("by_data", [True, False])
def test_any_authentic_datagram_keeps_alive(by_data: bool) -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 20
    verdict = relay.player_sends().verdict if by_data else relay.player_pings().verdict
    assert verdict is (Verdict.NO_HOST if by_data else Verdict.ANSWERED)
    relay.now += 20
    relay.expire()
    assert relay.user().client_binding is not None


def test_a_silent_host_is_unbound_and_its_players_have_none() -> None:
    relay = Relay()
    relay.host_pings()
    relay.now += 30
    relay.expire()
    assert relay.player_sends().verdict is Verdict.NO_HOST


def test_a_binding_that_ended_and_began_anew_is_not_ended_by_its_old_deadline() -> None:
    relay = Relay()
    relay.player_pings()
    relay.apply(spec(users=(BOB,)))
    relay.apply(spec())
    relay.now += 29
    relay.player_pings()
    relay.now += 1
    relay.expire()
    assert relay.user().client_binding is not None


def ends_in_300_seconds(relay: Relay) -> None:
    """Not a moment earlier."""
    relay.now += 299.75
    relay.expire()
    assert "game" in relay.table.sessions
    relay.now += 0.25
    relay.expire()
    assert "game" not in relay.table.sessions


def test_a_session_nobody_ever_came_to_ends() -> None:
    relay = Relay()
    ends_in_300_seconds(relay)
    assert relay.kinds()[-1] is EventKind.SESSION_IDLE
    assert relay.table.sessions == {}
    assert relay.table.by_token == {}
    assert relay.table.users == 0
    assert relay.player_pings().datagram == b"\x01\x04"


def test_the_wait_for_idleness_begins_when_the_last_one_left() -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 30
    relay.expire()
    ends_in_300_seconds(relay)


def played_for_long() -> Relay:
    relay = Relay()
    for _ in range(40):
        relay.player_pings()
        relay.now += 20
        relay.expire()
    return relay


def test_a_session_with_somebody_never_ends() -> None:
    assert "game" in played_for_long().table.sessions


def test_a_session_played_for_long_ends_after_the_last_one_left() -> None:
    relay = played_for_long()
    relay.now += 10
    relay.expire()
    ends_in_300_seconds(relay)


def test_idle_timeout_zero_means_never() -> None:
    relay = Relay(Limits(session_idle_timeout=0))
    assert relay.table.next_deadline() is None
    relay.now += 1e9
    assert relay.expire() is False
    assert "game" in relay.table.sessions


def test_a_session_that_people_come_to_and_leave_costs_one_look_at_a_time() -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 30
    relay.expire()
    relay.now += 270
    relay.expire()
    for _ in range(3):
        relay.player_pings()
        relay.apply(spec(users=()))
        relay.apply(spec())
    relay.now += 300
    assert relay.expire(budget=4) is False
    assert relay.kinds()[-1] is EventKind.SESSION_IDLE


def idle_ended() -> Relay:
    relay = Relay()
    relay.now += 300
    relay.expire()
    return relay


def test_an_ended_session_is_not_revived_while_its_source_still_names_it() -> None:
    relay = idle_ended()
    for _ in range(2):
        relay.apply(spec())
        relay.table.change(Change((spec(),)), relay.now)
        assert relay.table.sessions == {}
    assert relay.player_pings().verdict is Verdict.SESSION_ENDED


def test_an_ended_session_may_come_back_after_its_source_dropped_it() -> None:
    relay = idle_ended()
    relay.apply()
    relay.apply(spec())
    assert relay.player_pings().verdict is Verdict.ANSWERED


def test_an_ended_session_comes_back_with_another_token() -> None:
    relay = idle_ended()
    relay.apply(spec(token=5))
    assert relay.player_pings(session=5).verdict is Verdict.ANSWERED
    assert relay.player_pings().verdict is Verdict.SESSION_ENDED


def test_an_ended_session_comes_back_with_its_old_token_after_it_had_another() -> None:
    relay = idle_ended()
    relay.apply(spec(token=5))
    relay.apply(spec())
    assert relay.player_pings().verdict is Verdict.ANSWERED


@pytest.mark.parametrize(
    "change", [Change((spec(token=5),)), Change((spec(),), ("game",))], ids=["another token", "removed and added"]
)
def test_a_change_revives_an_ended_session_that_is_named_anew(change: Change) -> None:
    relay = idle_ended()
    relay.table.change(change, relay.now)
    assert "game" in relay.table.sessions


def test_what_ended_is_forgotten_after_a_minute() -> None:
    relay = idle_ended()
    assert relay.table.next_deadline() == relay.now + 60
    relay.now += 60
    relay.expire()
    assert relay.table.next_deadline() is None
    assert not relay.table.ended_recently(SESSION, relay.now)


def many_players(number: int) -> Relay:
    relay = Relay(specs=[spec(users=range(1, number + 1))])
    for user in range(1, number + 1):
        relay.player_pings(user, ("203.0.113.1", user))
    relay.events.clear()
    return relay


def test_ten_thousand_users_expire_by_repeated_calls_within_the_budget() -> None:
    relay = many_players(10_000)
    relay.now += 30
    calls = 1
    while relay.expire(budget=200):
        assert len(relay.events) == 200 * calls
        calls += 1
    assert calls == 50
    assert relay.table.bound == [0, 0]
    assert relay.kinds() == [EventKind.USER_SILENT] * 10_000


def test_a_budget_also_bounds_looks_at_those_who_are_still_there() -> None:
    relay = many_players(10)
    relay.now += 20
    for user in range(1, 11):
        relay.player_pings(user, ("203.0.113.1", user))
    relay.now += 10
    assert [relay.expire(budget=4) for _ in range(3)] == [True, True, False]
    assert relay.events == []
    assert relay.table.next_deadline() == relay.now + 20


def test_a_budget_bounds_the_ending_of_sessions_and_the_forgetting() -> None:
    relay = Relay(specs=[spec(str(number), number, ()) for number in range(1, 10)])
    relay.now += 300
    assert [relay.expire(budget=4) for _ in range(3)] == [True, True, False]
    relay.now += 60
    assert [relay.expire(budget=4) for _ in range(3)] == [True, True, False]
    assert relay.table.next_deadline() is None


def test_a_removed_binding_costs_one_look_when_its_time_comes() -> None:
    relay = many_players(10)
    relay.apply(spec(users=(1,)))
    relay.events.clear()
    relay.now += 30
    assert relay.expire(budget=9) is True
    assert relay.expire(budget=1) is False
    assert relay.kinds() == [EventKind.USER_SILENT]


def test_sessions_that_ended_before_a_restart_are_forgotten_in_their_time_whatever_has_ended_since() -> None:
    relay = Relay()
    ended_at = relay.now
    relay.apply()
    relay.table.remember_ended(78, ended_at + 20)
    relay.table.remember_ended(77, ended_at + 10)
    relay.table.remember_ended(SESSION, ended_at + 1)
    assert relay.table.next_deadline() == ended_at + 10
    relay.now += 20
    relay.expire()
    assert relay.table.next_deadline() == ended_at + 60
    assert relay.table.ended_recently(SESSION, relay.now)


def test_of_too_many_sessions_that_ended_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.core.table._MOST_TOMBSTONES", 2)
    relay = Relay(specs=[spec(f"game-{token}", token) for token in (1, 2, 3, 4)])
    for left in ((2, 3, 4), (3, 4), (4,)):
        relay.apply(*(spec(f"game-{token}", token) for token in left))
    assert [relay.table.ended_recently(token, relay.now) for token in (1, 2, 3, 4)] == [False, True, True, False]
