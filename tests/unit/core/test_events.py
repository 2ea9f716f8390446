"""What those who follow the table are told, once for each change and after it was made."""

import pytest

from relayd.core.events import Event, EventKind
from tests.support.relays import ALICE_AT, ALICE_MOVED, BOB, BOB_AT, OPENING, Relay, running, spec


@pytest.fixture
def relay() -> Relay:
    relay = running()
    relay.now += 1
    relay.events.clear()
    return relay


def only_event(relay: Relay) -> Event:
    assert len(relay.events) == 1
    return relay.events[0]


def test_a_new_session(relay: Relay) -> None:
    relay.apply(spec(), spec("new", 5))
    assert only_event(relay) == (EventKind.SESSION_ADDED, relay.table.sessions["new"], None)


def test_a_user_who_binds(relay: Relay) -> None:
    relay.player_pings(BOB, BOB_AT)
    binding = relay.user(BOB).client_binding
    assert only_event(relay) == (EventKind.USER_BOUND, relay.table.sessions["game"], binding)


def test_a_user_who_moves_is_told_of_at_the_new_address(relay: Relay) -> None:
    relay.player_pings(source=ALICE_MOVED)
    event = only_event(relay)
    assert event.kind is EventKind.USER_MOVED
    assert event.binding is not None
    assert event.binding.address == ALICE_MOVED


def test_a_player_who_begins_a_new_connection(relay: Relay) -> None:
    relay.player_sends(OPENING, source=ALICE_MOVED)
    assert relay.kinds() == [EventKind.USER_MOVED, EventKind.CONNECTION_RENEWED]


def test_a_host_that_is_replaced(relay: Relay) -> None:
    relay.now += 10
    relay.host_pings(BOB, BOB_AT)
    assert relay.kinds() == [EventKind.HOST_REPLACED, EventKind.USER_BOUND]


def test_a_user_who_fell_silent_is_told_of_as_last_seen(relay: Relay) -> None:
    relay.host_pings()
    relay.now += 29
    relay.expire()
    event = only_event(relay)
    assert event.kind is EventKind.USER_SILENT
    assert event.binding is not None
    assert event.binding.address == ALICE_AT


def test_traffic_and_refusals_are_no_events(relay: Relay) -> None:
    relay.player_sends()
    relay.player_pings()
    relay.player_pings(user=4)
    assert relay.events == []
