"""In which order followers are told, who is told when one ends or fails, and what the table looks like meanwhile."""

from itertools import permutations

import pytest

from relayd.core.desired import Snapshot
from relayd.core.events import Event, EventKind
from relayd.core.followers import Followers, Phase
from relayd.core.limits import Limits
from relayd.core.session import User
from relayd.core.table import Table
from tests.support.relays import ALICE, ALICE_AT, BOB, CLIENT, HOST, SESSION, Events, ids_in_order, running, spec


class Teller:
    """Writes down under its name what it is told, in a book that it shares with others."""

    def __init__(self, name: object, book: list[tuple[object, object]]) -> None:
        self._name, self._book = name, book

    def event(self, event: Event) -> None:
        self._book.append((self._name, event.kind))

    def authorized(self, user: User, admitted: bool) -> None:
        self._book.append((self._name, (user.token, admitted)))


class Failing(Teller):
    """And then fails."""

    def event(self, event: Event) -> None:
        super().event(event)
        raise LookupError(event.kind.value)

    def authorized(self, user: User, admitted: bool) -> None:
        super().authorized(user, admitted)
        raise LookupError(f"{user.token} {admitted}")


def table_with(*tellers: tuple[Phase, Teller], failed: list[Exception] | None = None) -> Table:
    followers = Followers(failed.append) if failed is not None else Followers()
    table = Table(Limits(), ids_in_order(), followers)
    for phase, teller in tellers:
        followers.subscribe(phase, teller)
        followers.subscribe_to_users(phase, teller)
    return table


def test_the_phases_are_those_of_the_design() -> None:
    assert [phase.name for phase in Phase] == ["KERNEL", "THREADS", "RECORDS", "READERS"]
    assert sorted(Phase) == list(Phase)


@pytest.mark.parametrize("order", list(permutations(Phase)))
def test_phases_are_told_in_their_order_whoever_subscribed_first(order: tuple[Phase, ...]) -> None:
    book: list[tuple[object, object]] = []
    table = table_with(*((phase, Teller(phase, book)) for phase in order))
    table.apply(Snapshot.of([spec(users=(ALICE,))]), 0.0)
    told = [EventKind.SESSION_ADDED, (ALICE, True)]
    assert book == [(phase, one) for one in told for phase in Phase]


def test_a_user_is_told_of_when_it_is_let_in_and_when_it_is_no_longer_there() -> None:
    book: list[tuple[object, object]] = []
    table = table_with()
    table.followers.subscribe_to_users(Phase.READERS, Teller("users", book))
    table.apply(Snapshot.of([spec(users=(HOST, ALICE))]), 0.0)
    table.apply(Snapshot.of([spec(users=(HOST, BOB))]), 0.0)
    table.apply(Snapshot.of([]), 0.0)
    told = [told for _, told in book]
    assert told == [(HOST, True), (ALICE, True), (ALICE, False), (BOB, True), (HOST, False), (BOB, False)]


def test_a_binding_restored_while_a_user_is_told_of_is_told_whole_before_the_next_phase() -> None:
    book: list[tuple[object, object]] = []
    table = table_with((Phase.THREADS, Teller("threads", book)), (Phase.READERS, Teller("readers", book)))

    class Restores:
        def authorized(self, user: User, admitted: bool) -> None:
            table.restore(user, CLIENT, ALICE_AT, connection_id=7, now=0.0)

    table.followers.subscribe_to_users(Phase.KERNEL, Restores())
    table.apply(Snapshot.of([spec(users=(ALICE,))]), 0.0)
    told = [EventKind.SESSION_ADDED, EventKind.USER_BOUND, (ALICE, True)]
    assert book == [(name, one) for one in told for name in ("threads", "readers")]


def test_who_unsubscribed_is_told_of_nothing_and_the_others_are() -> None:
    book: list[tuple[object, object]] = []
    one, other = Teller("one", book), Teller("other", book)
    table = table_with((Phase.READERS, one), (Phase.READERS, other))
    table.followers.unsubscribe(one)
    table.followers.unsubscribe(Teller("who never subscribed", book))
    table.apply(Snapshot.of([spec(users=(ALICE,))]), 0.0)
    assert book == [("other", EventKind.SESSION_ADDED), ("other", (ALICE, True))]


def test_one_that_unsubscribes_while_it_is_told_disturbs_nobody() -> None:
    book: list[tuple[object, object]] = []
    table = table_with()

    class Once(Teller):
        def event(self, event: Event) -> None:
            super().event(event)
            table.followers.unsubscribe(self)

    for follower in (Once("once", book), Teller("always", book)):
        table.followers.subscribe(Phase.READERS, follower)
    table.apply(Snapshot.of([spec(), spec("other", 77)]), 0.0)
    assert [name for name, _ in book] == ["once", "always", "always"]


def test_where_one_fails_the_others_are_told_and_the_change_is_completed() -> None:
    failures: list[Exception] = []
    book: list[tuple[object, object]] = []
    table = table_with(
        (Phase.KERNEL, Failing("kernel", book)), (Phase.READERS, Teller("readers", book)), failed=failures
    )
    table.apply(Snapshot.of([spec(users=(HOST, ALICE))]), 0.0)
    table.bind(table.by_token[SESSION].users[ALICE], CLIENT, ALICE_AT, 0.0)
    table.apply(Snapshot.of([spec(users=(HOST,))]), 0.0)
    told = [
        EventKind.SESSION_ADDED,
        (HOST, True),
        (ALICE, True),
        EventKind.USER_BOUND,
        EventKind.USER_REVOKED,
        (ALICE, False),
    ]
    assert book == [(name, one) for one in told for name in ("kernel", "readers")]
    assert list(table.by_token[SESSION].users) == [HOST]
    assert (table.users, table.bound) == (1, [0, 0])
    assert [type(failure) for failure in failures] == [LookupError] * len(told)


def test_where_nobody_takes_failures_whoever_changes_the_table_hears_of_them() -> None:
    table = table_with((Phase.KERNEL, Failing("kernel", [])))
    with pytest.raises(LookupError, match="session added"):
        table.apply(Snapshot.of([spec()]), 0.0)


def test_an_event_is_told_after_the_change_was_made() -> None:
    relay = running()
    seen: list[object] = []

    class Looks(Events):
        def event(self, event: Event) -> None:
            assert event.binding is not None
            seen.append(event.binding.user.binding_on(event.binding.port))

    relay.table.followers.subscribe(Phase.KERNEL, Looks())
    relay.now += 31
    relay.expire()
    assert seen == [None, None]
