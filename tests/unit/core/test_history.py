"""What the relay remembers of refusals and changes, and that it never remembers more than it may."""

import pytest

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.events import EventKind
from relayd.core.history import ENTRIES, Change, History, Refusal, Ring
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    ALICE_MOVED,
    CLIENT,
    HOST,
    SERVER,
    SESSION,
    STRANGER_AT,
    Relay,
    running,
)


def refusal(verdict: Verdict, port: Port, source: Address, user: int | None, session: int | None) -> Refusal:
    return Refusal(verdict, port, source[0], source[1], user, session)


def refusals(relay: Relay, token: int = SESSION) -> list[tuple[Refusal, int]]:
    return [(what, spell.times) for what, spell in relay.table.history.sessions[token].refusals]


def changes(relay: Relay, token: int = SESSION) -> list[tuple[EventKind, int | None]]:
    return [(what.kind, what.user_token) for what, _ in relay.table.history.sessions[token].changes]


def test_what_is_forwarded_or_answered_leaves_no_trace() -> None:
    relay = running()
    for _ in range(3):
        relay.player_pings()
        relay.player_sends()
        relay.host_sends(relay.user().connection_id)
    assert refusals(relay) == []
    assert not relay.table.history.strangers
    assert changes(relay)[:2] == [(EventKind.USER_BOUND, HOST), (EventKind.USER_BOUND, ALICE)]


def test_a_session_nobody_came_to_costs_nothing() -> None:
    assert not Relay().table.history.sessions


def test_refusals_are_merged_and_timed() -> None:
    relay = running()
    relay.player_pings(user=4)
    relay.now += 7
    relay.player_sends(user=4)
    ((what, spell),) = relay.table.history.sessions[SESSION].refusals
    assert what == refusal(Verdict.UNKNOWN_PAIR, Port.CLIENT, ALICE_AT, 4, SESSION)
    assert (spell.times, spell.data, spell.last - spell.first) == (2, 1, 7)


def test_after_a_long_pause_it_is_counted_anew() -> None:
    relay = running()
    relay.player_pings(user=4)
    relay.now += 61
    relay.player_pings(user=4)
    assert [times for _, times in refusals(relay)] == [1]


@pytest.mark.parametrize(
    ("endpoint", "datagram", "verdict"),
    [
        (CLIENT, encode_player_data(ALICE, SESSION, bytes(1192)), Verdict.TOO_LONG),
        (CLIENT, encode_player_data(ALICE, SESSION, b""), Verdict.NO_PAYLOAD),
        (CLIENT, encode_ping(ALICE, SESSION)[:8] + b"\x07", Verdict.UNKNOWN_TYPE),
        (SERVER, encode_player_data(ALICE, SESSION, b"x"), Verdict.TOO_SHORT),
    ],
)
def test_malformed_datagrams_are_put_down_to_whom_they_name(
    endpoint: Endpoint, datagram: bytes, verdict: Verdict
) -> None:
    relay = Relay()
    relay.send(endpoint, datagram, ALICE_AT)
    assert refusals(relay) == [(refusal(verdict, endpoint.port, ALICE_AT, ALICE, SESSION), 1)]


def test_what_names_no_session_is_put_down_to_its_source() -> None:
    relay = Relay()
    relay.send(CLIENT, b"hello", STRANGER_AT)
    relay.player_pings(session=77, source=STRANGER_AT)
    (ring,) = relay.table.history.strangers.values()
    assert [what for what, _ in ring] == [
        refusal(Verdict.TOO_SHORT, Port.CLIENT, STRANGER_AT, None, None),
        refusal(Verdict.UNKNOWN_PAIR, Port.CLIENT, STRANGER_AT, ALICE, 77),
    ]


def test_a_session_is_remembered_beyond_its_end() -> None:
    relay = running()
    relay.apply()
    relay.player_pings()
    assert changes(relay)[-1] == (EventKind.SESSION_REMOVED, None)
    assert [what.verdict for what, _ in refusals(relay)] == [Verdict.SESSION_ENDED]


def test_a_token_that_passes_to_another_session_begins_anew() -> None:
    relay = running()
    relay.apply(SessionSpec("next", SESSION, (UserSpec(ALICE, None),)))
    relay.player_pings()
    assert relay.table.history.sessions[SESSION].session_id == "next"
    assert changes(relay) == [(EventKind.USER_BOUND, ALICE)]


def test_revoked_users_are_noted_bound_or_not() -> None:
    relay = running()
    relay.apply(SessionSpec("game", SESSION, (UserSpec(HOST, None),)))
    noted = [what for what, _ in relay.table.history.sessions[SESSION].changes if what.kind is EventKind.USER_REVOKED]
    bob = Change(EventKind.USER_REVOKED, 1002)
    assert sorted(noted, key=lambda what: what.udp_port) == [
        bob,
        Change(EventKind.USER_REVOKED, ALICE, Port.CLIENT, ALICE_AT[0], ALICE_AT[1]),
    ]


def test_a_move_is_noted_with_the_new_address() -> None:
    relay = running()
    relay.now += 1
    relay.player_pings(source=ALICE_MOVED)
    last = list(relay.table.history.sessions[SESSION].changes)[-1][0]
    assert last == Change(EventKind.USER_MOVED, ALICE, Port.CLIENT, ALICE_MOVED[0], ALICE_MOVED[1])


def test_refusals_cannot_push_out_changes() -> None:
    relay = running()
    for number in range(1000):
        relay.player_pings(user=5000 + number)
    assert len(refusals(relay)) == ENTRIES
    assert refusals(relay)[-1][0].user_token == 5999
    assert (EventKind.USER_BOUND, HOST) in changes(relay)


def test_memory_is_bounded_whoever_sends_what() -> None:
    sessions = {token: Session(f"session-{token}", token, 0.0) for token in range(1, 101)}
    history = History(sessions, most_sessions=10, most_sources=5)
    for number in range(10_000):
        source = f"198.51.{number % 50}.{number % 200}", number
        history.refused(Verdict.UNKNOWN_PAIR, Port.CLIENT, encode_ping(number, number % 150), source, number / 1000)
    rings = [own.refusals for own in history.sessions.values()] + list(history.strangers.values())
    assert (len(history.sessions), len(history.strangers)) == (10, 5)
    assert max(len(ring) for ring in rings) <= ENTRIES


def test_one_ipv6_network_is_one_source() -> None:
    history = History({})
    for number in range(100):
        history.refused(Verdict.TOO_SHORT, Port.CLIENT, b"", (f"2001:db8::{number:x}", 5, 0, 0), 1.0)
    assert len(history.strangers) == 1


def test_the_host_and_a_stranger_in_its_name() -> None:
    relay = running()
    relay.host_pings(source=STRANGER_AT)
    assert refusals(relay) == [(refusal(Verdict.ADDRESS_CONFLICT, Port.SERVER, STRANGER_AT, HOST, SESSION), 1)]


def test_what_was_dropped_for_a_rate_elsewhere_is_noted_too() -> None:
    relay = running()
    binding = relay.user().client_binding
    assert binding is not None
    relay.table.history.limited(binding, 5, relay.now)
    relay.table.history.limited(binding, 2, relay.now + 1)
    ((refusal, spell),) = relay.table.history.sessions[SESSION].refusals
    assert (refusal.verdict, refusal.user_token, refusal.ip_address) == (Verdict.RATE_LIMITED, ALICE, ALICE_AT[0])
    assert (spell.times, spell.last) == (7, relay.now + 1)
    binding.address = ("2001:db8::7", 5000, 0, 0)
    relay.table.history.limited(binding, 1, relay.now + 2)
    _, (refusal, _) = relay.table.history.sessions[SESSION].refusals
    assert (refusal.ip_address, refusal.udp_port) == ("2001:db8::7", 5000)


def test_of_too_many_different_things_the_one_heard_longest_ago_is_forgotten() -> None:
    ring = Ring[str](3)
    for at, what in enumerate(("first", "second", "third", "first", "fourth")):
        ring.note(what, float(at))
    assert [(what, spell.times, spell.first, spell.last) for what, spell in ring] == [
        ("third", 1, 2.0, 2.0),
        ("first", 2, 0.0, 3.0),
        ("fourth", 1, 4.0, 4.0),
    ]


def test_of_too_many_sessions_the_one_heard_longest_ago_is_forgotten() -> None:
    history = History({token: Session(f"game-{token}", token, 0.0) for token in range(1, 5)}, most_sessions=2)
    for token in (1, 2, 1, 3):
        history.refused(Verdict.UNKNOWN_PAIR, Port.CLIENT, encode_ping(9, token), STRANGER_AT, 1.0)
    assert list(history.sessions) == [1, 3]


def test_of_too_many_sources_the_one_heard_longest_ago_is_forgotten() -> None:
    history = History({}, most_sources=2)
    for last in (1, 2, 1, 3):
        history.refused(Verdict.TOO_SHORT, Port.CLIENT, b"", (f"192.0.2.{last}", 5), 1.0)
    assert list(history.strangers) == ["192.0.2.1", "192.0.2.3"]
