"""Desired state: applied as a diff, refused whole when it contradicts."""

import pytest

from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot, UserSpec
from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from tests.support.relays import ALICE, ALICE_AT, BOB, BOB_AT, HOST, SESSION, Relay, spec


def running() -> Relay:
    relay = Relay(specs=[spec(), spec("other", 77)])
    relay.host_pings()
    relay.player_sends()
    relay.host_pings(session=77)
    relay.events.clear()
    return relay


def contents(relay: Relay) -> dict[str, tuple[int, set[int]]]:
    return {key: (session.token, set(session.users)) for key, session in relay.table.sessions.items()}


def test_the_same_state_again_touches_nothing() -> None:
    relay = running()
    session, user, binding = relay.table.sessions["game"], relay.user(), relay.user().client_binding
    relay.apply(spec(), spec("other", 77))
    assert relay.table.sessions["game"] is session
    assert relay.user() is user
    assert relay.user().client_binding is binding is not None
    assert relay.events == []


def test_other_users_and_sessions_stay_untouched_by_a_revoke() -> None:
    relay = running()
    relay.player_pings(BOB, BOB_AT)
    bob, host, other = relay.user(BOB).client_binding, relay.table.sessions["game"].host, relay.table.sessions["other"]
    relay.apply(spec(users=(HOST, BOB)), spec("other", 77))
    assert (relay.user(BOB).client_binding, relay.table.sessions["game"].host) == (bob, host)
    assert relay.table.sessions["other"] is other
    assert relay.kinds()[-1] is EventKind.USER_REVOKED
    assert relay.table.bound == [2, 1]
    assert relay.table.users == 5


def test_a_revoked_player_neither_sends_nor_receives() -> None:
    relay = running()
    number = relay.user().connection_id
    relay.apply(spec(users=(HOST, BOB)))
    assert relay.player_sends().verdict is Verdict.UNKNOWN_PAIR
    assert relay.host_sends(number).verdict is Verdict.UNKNOWN_CONNECTION


def test_a_revoked_host_is_no_longer_sent_to() -> None:
    relay = running()
    relay.apply(spec(users=(ALICE,)))
    assert relay.player_sends().verdict is Verdict.NO_HOST
    assert relay.host_pings().verdict is Verdict.UNKNOWN_PAIR


def test_a_user_who_was_revoked_and_is_back_has_another_connection_id() -> None:
    relay = running()
    before = relay.user().connection_id
    relay.apply(spec(users=(HOST,)))
    relay.apply(spec())
    relay.player_pings()
    assert relay.user().connection_id != before
    assert relay.host_sends(before).verdict is Verdict.UNKNOWN_CONNECTION


def test_what_a_revoked_user_sent_stays_counted() -> None:
    relay = running()
    relay.apply(spec(users=(HOST,)))
    assert relay.table.sessions["game"].traffic().to_host_datagrams == 1


def test_users_added_later_may_bind() -> None:
    relay = running()
    assert relay.player_pings(5).verdict is Verdict.UNKNOWN_PAIR
    relay.apply(spec(users=(HOST, ALICE, 5)))
    assert relay.player_pings(5).verdict is Verdict.ANSWERED


def test_a_changed_address_of_a_user_counts_from_then_on() -> None:
    relay = Relay(Limits(pin_ip=True), [SessionSpec("game", SESSION, (UserSpec(ALICE, BOB_AT[0]),))])
    assert relay.player_pings().verdict is Verdict.ADDRESS_REFUSED
    relay.apply(SessionSpec("game", SESSION, (UserSpec(ALICE, ALICE_AT[0]),)))
    assert relay.player_pings().verdict is Verdict.ANSWERED


def test_a_removed_session_unbinds_everybody_and_says_so() -> None:
    relay = running()
    relay.apply(spec("other", 77))
    assert relay.kinds() == [EventKind.USER_REVOKED, EventKind.USER_REVOKED, EventKind.SESSION_REMOVED]
    assert relay.table.bound == [1, 0]
    assert relay.table.users == 3
    assert relay.player_sends().verdict is Verdict.SESSION_ENDED


def test_another_token_makes_it_another_session() -> None:
    relay = running()
    relay.apply(spec(token=5), spec("other", 77))
    assert relay.player_sends().verdict is Verdict.SESSION_ENDED
    assert relay.player_pings(session=5).verdict is Verdict.ANSWERED


def test_a_session_that_comes_back_is_no_longer_ended() -> None:
    relay = running()
    relay.apply()
    relay.apply(spec())
    assert relay.player_pings().verdict is Verdict.ANSWERED
    assert not relay.table.ended_recently(SESSION, relay.now)


@pytest.mark.parametrize("by_change", [True, False])
def test_tokens_pass_between_sessions_at_once(by_change: bool) -> None:
    relay = running()
    swapped = (spec(token=77), spec("other", SESSION))
    if by_change:
        relay.table.change(Change(swapped), relay.now)
    else:
        relay.apply(*swapped)
    everybody = {HOST, ALICE, BOB}
    assert contents(relay) == {"game": (77, everybody), "other": (SESSION, everybody)}
    assert relay.table.by_token[77].session_id == "game"
    assert relay.table.by_token[SESSION].session_id == "other"
    assert relay.table.bound == [0, 0]


@pytest.mark.parametrize("by_change", [True, False])
def test_the_token_of_a_removed_session_is_free_at_once(by_change: bool) -> None:
    relay = running()
    if by_change:
        relay.table.change(Change((spec("new"),), ("game",)), relay.now)
    else:
        relay.apply(spec("new"))
    assert relay.table.by_token[SESSION].session_id == "new"
    assert "game" not in relay.table.sessions


def test_reconcile_pauses_after_each_session_and_is_loaded_only_at_the_end() -> None:
    relay = Relay()
    relay.table.loaded = False
    steps = relay.table.reconcile(Snapshot.of([spec("other", 77), spec("third", 78)]), relay.now)
    assert not relay.table.loaded
    seen = [sorted(relay.table.sessions) for _ in steps]
    assert seen == [[], ["other"], ["other", "third"]]
    assert relay.table.loaded


def test_a_session_that_ends_while_a_state_is_applied_stays_ended() -> None:
    relay = Relay(Limits(session_idle_timeout=20), [spec(), spec("other", 77)])
    steps = relay.table.reconcile(Snapshot.of([spec("new", 5), spec(), spec("other", 77)]), relay.now)
    next(steps)
    relay.now += 20
    relay.expire()
    list(steps)
    assert sorted(relay.table.sessions) == ["new"]


def test_a_change_leaves_all_others_alone() -> None:
    relay = running()
    binding = relay.user().client_binding
    relay.table.change(Change((spec("new", 5, (1,)),), ("other", "never was")), relay.now)
    assert contents(relay) == {"game": (SESSION, {HOST, ALICE, BOB}), "new": (5, {1})}
    assert relay.user().client_binding is binding


def test_a_change_brings_users_of_a_session_up_to_date() -> None:
    relay = running()
    session = relay.table.sessions["game"]
    relay.table.change(Change((spec(users=(HOST, 9)),)), relay.now)
    assert relay.table.sessions["game"] is session
    assert set(session.users) == {HOST, 9}


@pytest.mark.parametrize(
    "change",
    [
        Change((spec("new", 5), spec("thief", SESSION)), ("other",)),
        Change((spec("new", 5), spec("newer", 5)), ("other",)),
        Change((spec("new", 5), spec("new", 6)), ("other",)),
        Change((spec("new", 5), spec("twins", 6, (1, 1))), ("other",)),
        Change((spec(token=77), spec("new", 5)), ("game",)),
    ],
    ids=["token held", "token twice", "id twice", "user twice", "token held by what stays"],
)
def test_a_change_that_contradicts_is_refused_whole(change: Change) -> None:
    relay = running()
    before = contents(relay)
    with pytest.raises(InvalidSessionsError):
        relay.table.change(change, relay.now)
    assert contents(relay) == before
    assert relay.events == []
    assert relay.player_sends().verdict is Verdict.FORWARDED


def test_removed_and_added_in_one_change_begins_anew() -> None:
    relay = running()
    relay.table.change(Change((spec(),), ("game",)), relay.now)
    assert relay.table.sessions["game"].bound == 0
    assert relay.player_pings().verdict is Verdict.ANSWERED


def test_numbers_of_bound_by_port() -> None:
    relay = running()
    assert (relay.table.bound[Port.SERVER], relay.table.bound[Port.CLIENT]) == (2, 1)


def test_a_session_is_watched_once_and_until_it_ends() -> None:
    relay = running()
    session = relay.table.sessions["game"]
    relay.events.clear()
    for _ in range(2):
        relay.table.watch(session, relay.now)
    assert session in relay.table.watched
    for _ in range(2):
        relay.table.unwatch(session, relay.now)
    assert relay.kinds() == [EventKind.WATCH_BEGAN, EventKind.WATCH_ENDED]
    relay.table.watch(session, relay.now)
    relay.apply()
    assert not relay.table.watched
    relay.events.clear()
    relay.table.unwatch(session, relay.now)
    assert relay.events == []


def test_a_session_that_ended_holds_nobody_and_is_held_by_nobody() -> None:
    """Users and session point at each other, and in production the garbage collector rests."""
    relay = running()
    session, alice, host = relay.table.sessions["game"], relay.user(ALICE), relay.user(HOST)
    assert session.players == {alice.connection_id: alice}
    relay.apply(spec("other", 77))
    assert (session.users, session.players, session.host) == ({}, {}, None)
    assert alice.client_binding is host.server_binding is None


def test_sessions_with_somebody_in_them_are_counted() -> None:
    relay = Relay(specs=[spec(), spec("other", 77)])
    assert relay.table.active_sessions == 0
    relay.host_pings()
    relay.player_pings()
    assert relay.table.active_sessions == 1
    relay.host_pings(session=77)
    assert relay.table.active_sessions == 2
    relay.apply(spec(users=(ALICE,)))
    assert relay.table.active_sessions == 1
    relay.apply(spec(users=(BOB,)))
    assert relay.table.active_sessions == 0


def test_whoever_keeps_the_table_sees_by_its_edition_that_something_changed() -> None:
    relay = Relay()
    seen = [relay.table.edition]
    for sessions in (
        [spec(users=(HOST, ALICE))],
        [spec(users=(HOST, ALICE, BOB))],
        [spec(), spec("other", 77, ())],
        [spec()],
    ):
        relay.apply(*sessions)
        seen.append(relay.table.edition)
    assert len(set(seen)) == len(seen)
    relay.apply(spec())
    assert relay.table.edition == seen[-1]


def test_a_change_may_bring_as_many_users_as_a_relay_holds_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.core.desired.MOST_USERS", 7)
    relay = Relay(specs=[spec(), spec("other", 77, (HOST,))])
    relay.table.change(Change((spec("third", 78),)), relay.now)
    assert relay.table.users == 7
    with pytest.raises(InvalidSessionsError, match="spread them over several relays"):
        relay.table.change(Change((spec("other", 77, (HOST, ALICE)),)), relay.now)
    relay.table.change(Change((spec("other", 77, (ALICE,)),)), relay.now)
    assert relay.table.users == 7
