"""Each verdict: what provokes it, what is answered, and that it alone is counted."""

from collections.abc import Callable

import pytest

from relayd.core.engine import Action
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    ALICE_MOVED,
    BOB,
    BOB_AT,
    CLIENT,
    HOST,
    HOST_AT,
    SERVER,
    SESSION,
    STRANGER_AT,
    Relay,
    full,
    pinned,
    running,
    spec,
)

VALID, INVALID, SESSION_TIMEOUT, ERROR = b"\x01\x02", b"\x01\x03", b"\x01\x04", b"\x01\x05"


def ended() -> Relay:
    relay = running()
    relay.apply()
    return relay


def draining() -> Relay:
    relay = Relay()
    relay.engine.draining = True
    return relay


def limited() -> Relay:
    relay = Relay(Limits(user_datagrams_per_second=1))
    relay.player_pings()
    return relay


def session_limited() -> Relay:
    relay = Relay(Limits(session_datagrams_per_second=2))
    relay.host_pings()
    relay.player_pings(BOB, BOB_AT)
    return relay


def guessed() -> Relay:
    relay = Relay(Limits(refusals_per_second=0))
    for token in range(50):
        relay.player_pings(1 + token, STRANGER_AT)
    return relay


REFUSALS: list[tuple[Verdict, Callable[[], Relay], Callable[[Relay], Action], bytes]] = [
    (Verdict.TOO_SHORT, running, lambda relay: relay.send(CLIENT, bytes(8), ALICE_AT), b""),
    (Verdict.TOO_SHORT, running, lambda relay: relay.send(SERVER, encode_ping(HOST, SESSION)[:8], HOST_AT), b""),
    (
        Verdict.TOO_SHORT,
        running,
        lambda relay: relay.send(SERVER, encode_player_data(HOST, SESSION, b"abc"), HOST_AT),
        b"",
    ),
    (Verdict.TOO_LONG, running, lambda relay: relay.player_sends(bytes(1192)), b""),
    (Verdict.UNKNOWN_TYPE, running, lambda relay: relay.send(CLIENT, bytes(9), ALICE_AT), b""),
    (Verdict.UNKNOWN_TYPE, running, lambda relay: relay.send(SERVER, bytes(8) + b"\x03", HOST_AT), b""),
    (Verdict.NO_PAYLOAD, running, lambda relay: relay.player_sends(b""), b""),
    (Verdict.NO_PAYLOAD, running, lambda relay: relay.host_sends(1, b""), b""),
    (Verdict.UNKNOWN_PAIR, running, lambda relay: relay.player_pings(user=4), INVALID),
    (Verdict.UNKNOWN_PAIR, running, lambda relay: relay.player_pings(session=4), INVALID),
    (Verdict.UNKNOWN_PAIR, running, lambda relay: relay.player_sends(user=4), INVALID),
    (Verdict.SESSION_ENDED, ended, lambda relay: relay.player_pings(), SESSION_TIMEOUT),
    (Verdict.SESSION_ENDED, ended, lambda relay: relay.player_sends(), SESSION_TIMEOUT),
    (Verdict.ADDRESS_CONFLICT, running, lambda relay: relay.player_pings(source=ALICE_MOVED), b""),
    (Verdict.ADDRESS_CONFLICT, running, lambda relay: relay.host_pings(source=STRANGER_AT), b""),
    (Verdict.ADDRESS_REFUSED, pinned, lambda relay: relay.player_pings(source=STRANGER_AT), ERROR),
    (Verdict.HOST_CONFLICT, running, lambda relay: relay.host_pings(BOB, BOB_AT), ERROR),
    (
        Verdict.HOST_CONFLICT,
        running,
        lambda relay: relay.send(SERVER, encode_host_data(BOB, SESSION, 1, b"x"), BOB_AT),
        ERROR,
    ),
    (Verdict.NO_HOST, Relay, lambda relay: relay.player_sends(), b""),
    (Verdict.UNKNOWN_CONNECTION, running, lambda relay: relay.host_sends(99), b""),
    (Verdict.UNKNOWN_CONNECTION, running, lambda relay: relay.host_sends(0), b""),
    (Verdict.RATE_LIMITED, limited, lambda relay: relay.player_pings(), b""),
    (Verdict.RATE_LIMITED, session_limited, lambda relay: relay.player_pings(), b""),
    (Verdict.BAD_SOURCE, running, lambda relay: relay.player_pings(BOB, ("255.255.255.255", 5000)), b""),
    (Verdict.BAD_SOURCE, running, lambda relay: relay.player_pings(4, (STRANGER_AT[0], 0)), b""),
    (Verdict.GUESS_LIMITED, guessed, lambda relay: relay.player_pings(BOB, STRANGER_AT), b""),
    (Verdict.DRAINING, draining, lambda relay: relay.player_pings(), ERROR),
    (Verdict.DRAINING, draining, lambda relay: relay.host_pings(), ERROR),
    (Verdict.RELAY_FULL, full, lambda relay: relay.player_pings(), ERROR),
]


@pytest.mark.parametrize(("verdict", "make", "provoke", "answer"), REFUSALS)
def test_refusals_and_what_is_told(
    verdict: Verdict, make: Callable[[], Relay], provoke: Callable[[Relay], Action], answer: bytes
) -> None:
    relay = make()
    before = relay.counted()[0]
    action = provoke(relay)
    assert (action.verdict, action.datagram) == (verdict, answer)
    assert (action.endpoint is None) == (answer == b"")
    port_counts = [relay.count(port, verdict)[0] for port in Port]
    assert sum(port_counts) == 1
    assert relay.counted()[0] == before + 1
    assert sum(map(sum, relay.engine.counters.refusals_told)) == bool(answer)


def test_every_reason_to_drop_that_the_engine_decides_is_provoked_here() -> None:
    elsewhere = {Verdict.SEND_QUEUE_FULL, Verdict.SEND_FAILED, Verdict.RELAY_AWAY, Verdict.OVERLOADED}
    missing = set(Verdict) - elsewhere - {Verdict.FORWARDED, Verdict.ANSWERED} - {case[0] for case in REFUSALS}
    assert not missing, f"{missing}: a case in REFUSALS, or in `elsewhere` if the engine never decides so"
    assert not elsewhere & {case[0] for case in REFUSALS}


def test_a_game_in_both_directions_byte_for_byte() -> None:
    relay = running()
    assert relay.player_pings() == Action(Verdict.ANSWERED, CLIENT, ALICE_AT, VALID)
    number = relay.user().connection_id
    to_host = relay.player_sends(b"up")
    assert to_host[:4] == (Verdict.FORWARDED, SERVER, HOST_AT, b"\x02" + number.to_bytes(4, "little") + b"up")
    to_player = relay.host_sends(number, b"down")
    assert to_player[:4] == (Verdict.FORWARDED, CLIENT, ALICE_AT, b"\x02down")
    traffic = relay.table.sessions["game"].traffic()
    assert (traffic.to_host_datagrams, traffic.to_host_bytes) == (1, 11)
    assert (traffic.to_player_datagrams, traffic.to_player_bytes) == (1, 17)
    total = relay.engine.forwarded()
    assert (total.to_host_datagrams, total.to_host_bytes) == (1, 11)
    assert (total.to_player_datagrams, total.to_player_bytes) == (1, 17)


def test_data_binds_as_a_ping_does() -> None:
    relay = Relay()
    assert relay.host_sends(5).verdict is Verdict.UNKNOWN_CONNECTION
    assert relay.player_sends().verdict is Verdict.FORWARDED


def test_the_longest_datagram_passes() -> None:
    relay = running()
    assert relay.player_sends(bytes(1191)).verdict is Verdict.FORWARDED
    assert len(relay.host_sends(relay.user().connection_id, bytes(1187)).datagram) == 1188


def test_before_any_sessions_came_an_unknown_pair_is_being_checked() -> None:
    relay = Relay()
    relay.table.loaded = False
    assert relay.player_pings(user=4).datagram == b"\x01\x01"
    assert relay.player_pings().datagram == VALID


def test_an_ended_session_is_remembered_for_a_minute() -> None:
    relay = ended()
    relay.now += 59.75
    assert relay.player_pings().verdict is Verdict.SESSION_ENDED
    relay.now += 0.25
    assert relay.player_pings().verdict is Verdict.UNKNOWN_PAIR


def test_a_rate_limited_user_stays_alive_and_recovers() -> None:
    relay = Relay(Limits(user_datagrams_per_second=2))
    verdicts = [relay.player_pings().verdict for _ in range(3)]
    assert verdicts == [Verdict.ANSWERED, Verdict.ANSWERED, Verdict.RATE_LIMITED]
    assert relay.table.sessions["game"].drops == {Verdict.RATE_LIMITED: 1}
    relay.now += 0.5
    assert relay.player_pings().verdict is Verdict.ANSWERED
    relay.player_pings()
    binding = relay.user().client_binding
    assert binding is not None
    assert binding.last_seen == relay.now


def test_a_user_above_its_own_rate_eats_nothing_of_what_its_session_may_send() -> None:
    relay = Relay(Limits(user_datagrams_per_second=2, session_datagrams_per_second=10))
    verdicts = [relay.player_pings().verdict for _ in range(100)]
    assert verdicts.count(Verdict.ANSWERED) == 2
    assert [relay.player_pings(BOB, BOB_AT).verdict for _ in range(3)] == [
        Verdict.ANSWERED,
        Verdict.ANSWERED,
        Verdict.RATE_LIMITED,
    ]


def test_refusals_are_told_at_a_bounded_rate_and_dropped_silently_beyond() -> None:
    relay = Relay(Limits(refusals_per_source_per_second=2))
    answers = [relay.player_pings(user=4, source=STRANGER_AT).datagram for _ in range(4)]
    assert answers == [INVALID, INVALID, b"", b""]
    assert relay.count(Port.CLIENT, Verdict.UNKNOWN_PAIR) == (4, 36)
    assert sum(map(sum, relay.engine.counters.refusals_told)) == 2


def test_drops_that_name_a_session_are_counted_for_it() -> None:
    relay = running()
    relay.host_sends(99)
    relay.player_pings(user=4)
    relay.player_pings(source=ALICE_MOVED)
    relay.player_pings(session=4)
    assert relay.table.sessions["game"].drops == {
        Verdict.UNKNOWN_CONNECTION: 1,
        Verdict.UNKNOWN_PAIR: 1,
        Verdict.ADDRESS_CONFLICT: 1,
    }


def test_equal_user_tokens_in_two_sessions_never_see_each_other() -> None:
    relay = Relay(specs=[spec(), spec("other", 77)], new_connection_id=lambda: 5)
    relay.host_pings()
    relay.host_pings(session=77, source=STRANGER_AT)
    relay.player_pings()
    relay.player_pings(session=77, source=BOB_AT)
    assert relay.player_sends().to == HOST_AT
    assert relay.send(CLIENT, encode_player_data(ALICE, 77, b"x"), BOB_AT).to == STRANGER_AT
    assert relay.host_sends(5).to == ALICE_AT
    assert relay.send(SERVER, encode_host_data(HOST, 77, 5, b"x"), STRANGER_AT).to == BOB_AT
