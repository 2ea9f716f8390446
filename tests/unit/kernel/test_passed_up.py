"""What the program passes up: without a bound only what is from a bound address, whatever a packet looks like."""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from tests.scenarios.frames import build
from tests.scenarios.rig import XDP_DROP, XDP_PASS, Rig
from tests.scenarios.skips import needs_virtual_kernel
from tests.support.virtual_clock import VirtualClock

pytestmark = needs_virtual_kernel

SESSION = 0xCAFE
HOST, ALICE, BOB, CAROL, NOBODY = 1, 2, 3, 4, 99
BOUNDS = {
    "unknown_per_second": 10,
    "unknown_per_source_per_second": 7,
    "known_per_second": 8,
    "known_per_user_per_second": 5,
}
MANY = 40
CLOCK = VirtualClock()
_OPTIONS = bytes([0]) + bytes(6)
"""Of an extension header of 8 bytes: its length, and padding."""
FORMS: dict[str, tuple[int, dict[str, Any]]] = {
    "an IP option": (4, {"options": b"\x01\x01\x01\x00"}),
    "ten words of IP options": (4, {"options": b"\x01" * 40}),
    "a first fragment": (4, {"fragment": 0x2000}),
    "bytes behind the UDP length": (4, {"udp_bytes": 17}),
    "bytes behind the UDP length, IPv6": (6, {"udp_bytes": 17}),
    "a wrong checksum of IP": (4, {"broken_ip": True}),
    "without a checksum, IPv6": (6, {"checksum": "none"}),
    "a frame to many": (4, {"multicast": True}),
    "a frame to many, IPv6": (6, {"multicast": True}),
    "a priority": (4, {"priority_tags": 1}),
    "two priorities, IPv6": (6, {"priority_tags": 2}),
    "options for each hop": (6, {"extensions": ((0, _OPTIONS),)}),
    "a routing header": (6, {"extensions": ((43, bytes([0, 4, 0]) + bytes(4)),)}),
    "options of two sizes": (6, {"extensions": ((60, _OPTIONS), (60, bytes([2]) + bytes(22)))}),
    "a first fragment, IPv6": (6, {"extensions": ((44, bytes([0, 0, 1]) + bytes(4)),)}),
    "as many extension headers as are looked at": (6, {"extensions": ((60, _OPTIONS),) * 8}),
    "several datagrams in one": (4, {"checksum": "partial"}),
}
EACH_FORM = pytest.mark.parametrize("form", ["plain", "plain, IPv6", *FORMS])
EACH_ODD_FORM = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Rig]:
    with Rig(clock=CLOCK, bound=3, authorized=20) as rig:
        yield rig


@pytest.fixture
def rig(loaded: Rig) -> Rig:
    return begin(loaded)


def begin(rig: Rig, **limits: object) -> Rig:
    """A session that Alice, Bob and Carol may play in."""
    rig.restart({"guesses_per_second": 1000, "guesses_per_source_per_second": 1000, **limits}, BOUNDS)
    rig.authorize(("game", SESSION, (HOST, ALICE, BOB, CAROL)))
    return rig


def family_of(form: str) -> int:
    return FORMS[form][0] if form in FORMS else 6 if form.endswith("IPv6") else 4


def place(form: str, last: int) -> str:
    return f"10.77.0.{last}" if family_of(form) == 4 else f"fd77:0:0:{last:x}::1"


def frame(rig: Rig, form: str, user: int, last: int) -> bytes:
    """A player's DATA, or what the name of the form says."""
    payload = bytes(1200 if form == "several datagrams in one" else 12)
    datagram = encode_player_data(user, SESSION, payload)
    changes = FORMS[form][1] if form in FORMS else {}
    return build(rig.packet(place(form, last), 7000, Port.CLIENT, datagram), **changes)


def comes(rig: Rig, user: int, form: str, last: int) -> None:
    rig.handle(rig.frame(place(form, last), 7000, Port.CLIENT, encode_ping(user, SESSION)))


def passed(rig: Rig, frame: bytes, verdict: Verdict = Verdict.OVERLOADED) -> int:
    """How many of `MANY` are passed up; the rest is dropped, and counted as that."""
    runs = [rig.run(frame) for _ in range(MANY)]
    up = sum(run.exit == XDP_PASS for run in runs)
    assert [run.exit for run in runs] == [XDP_PASS] * up + [XDP_DROP] * (MANY - up)
    assert {run.verdict for run in runs[up:]} <= {verdict}
    return up


# From where nobody is bound -----------------------------------------------------------------------------------


@EACH_FORM
def test_unknown_tokens_are_bounded_by_source_and_in_all(rig: Rig, form: str) -> None:
    assert passed(rig, frame(rig, form, NOBODY, 98), Verdict.UNKNOWN_PAIR) == 7
    assert passed(rig, frame(rig, form, NOBODY, 99), Verdict.UNKNOWN_PAIR) == 3


@EACH_FORM
def test_right_tokens_are_bounded_by_user_and_in_all_and_apart_from_wrong_ones(rig: Rig, form: str) -> None:
    passed(rig, frame(rig, form, NOBODY, 98), Verdict.UNKNOWN_PAIR)
    passed(rig, frame(rig, form, NOBODY, 99), Verdict.UNKNOWN_PAIR)
    assert passed(rig, frame(rig, form, ALICE, 60)) == 5
    assert passed(rig, frame(rig, form, ALICE, 61)) == 0
    assert passed(rig, frame(rig, form, BOB, 60)) == 3
    CLOCK.advance(1.0)
    assert passed(rig, frame(rig, form, BOB, 62)) == 5


@EACH_FORM
def test_right_tokens_of_who_is_bound_elsewhere(rig: Rig, form: str) -> None:
    """Such as pin_ip, silence or a search leave to the sockets."""
    begin(rig, rebind_after=0.0)
    comes(rig, ALICE, form, 60)
    assert passed(rig, frame(rig, form, ALICE, 61)) == 5


@EACH_ODD_FORM
def test_a_search_is_noticed_in_any_form(rig: Rig, form: str) -> None:
    """Else only few of its wrong guesses would be known, and all of its right ones were let in."""
    begin(rig, guesses_per_second=20)
    for guess in range(60):
        rig.run(frame(rig, form, 1000 + guess, 99))
    rig.handle(rig.frame(place(form, 99), 7000, Port.CLIENT, encode_ping(ALICE, SESSION)))
    assert rig.engine.counters.datagrams[Port.CLIENT][Verdict.GUESS_LIMITED] == 1


@pytest.mark.parametrize("source", [place("plain", 99), place("plain, IPv6", 99)])
def test_what_cannot_be_read_is_a_strangers(rig: Rig, source: str) -> None:
    short = build(rig.packet(source, 7000, Port.CLIENT, b"12345678"), udp_bytes=15)
    assert passed(rig, short) == 7


def test_a_chain_of_headers_that_is_not_looked_at_to_its_end_is_a_strangers(rig: Rig) -> None:
    packet = rig.packet(place("plain, IPv6", 99), 7000, Port.CLIENT, encode_ping(NOBODY, SESSION))
    long = ((60, _OPTIONS),) * 9
    assert passed(rig, build(packet, extensions=long)) == 7
    # It may be on its way through.
    assert passed(rig, build(packet._replace(destination="fd77::77"), extensions=long)) == MANY


@EACH_ODD_FORM
def test_bad_sources_are_dropped_in_any_form(rig: Rig, form: str) -> None:
    packet = rig.packet(place(form, 99), 0, Port.CLIENT, encode_player_data(ALICE, SESSION, bytes(1200)))
    run = rig.run(build(packet, **FORMS[form][1]))
    assert (run.exit, run.verdict) == (XDP_DROP, Verdict.BAD_SOURCE)


@EACH_ODD_FORM
def test_what_is_for_others_is_left_alone_in_any_form(rig: Rig, form: str) -> None:
    packet = rig.packet(place(form, 99), 7000, Port.CLIENT, encode_player_data(NOBODY, SESSION, bytes(1200)))
    for others in (
        packet._replace(destination_port=53),
        packet._replace(destination="10.77.0.77" if family_of(form) == 4 else "fd77::77"),
    ):
        assert passed(rig, build(others, **FORMS[form][1])) == MANY


@pytest.mark.parametrize("changes", [{"fragment": 0x2010}, {"fragment": 0x0010}, {"vlan": True}])
def test_what_has_no_ports_or_is_in_a_vlan_is_left_to_the_stack(rig: Rig, changes: dict[str, Any]) -> None:
    assert passed(rig, build(rig.packet(place("plain", 99), 7000, Port.CLIENT, bytes(40)), **changes)) == MANY


def test_later_fragments_of_ipv6_are_left_to_the_stack(rig: Rig) -> None:
    later = ((44, bytes([0, 0, 0x11]) + bytes(4)),)
    packet = rig.packet(place("plain, IPv6", 99), 7000, Port.CLIENT, bytes(40))
    assert passed(rig, build(packet, extensions=later)) == MANY


# From a bound address -----------------------------------------------------------------------------------------


@EACH_ODD_FORM
def test_who_is_served_by_the_program_is_not_bounded(rig: Rig, form: str) -> None:
    comes(rig, ALICE, form, 60)
    assert rig.fast_path.bindings_served == 1
    assert passed(rig, frame(rig, form, ALICE, 60)) == MANY


@EACH_FORM
def test_who_is_served_by_the_sockets_is_not_bounded_until_the_program_serves_it(rig: Rig, form: str) -> None:
    comes(rig, ALICE, form, 60)
    session = rig.table.sessions["game"]
    rig.table.watch(session, rig.clock())
    assert rig.fast_path.bindings_served == 0
    assert passed(rig, frame(rig, form, ALICE, 60)) == MANY
    assert passed(rig, frame(rig, form, ALICE, 61)) == 5, "from elsewhere"
    rig.table.unwatch(session, rig.clock())
    rig.fast_path.mirror.flush()
    assert rig.fast_path.bindings_served == 1
    CLOCK.advance(1.0)
    assert passed(rig, build(rig.packet(place(form, 60), 7000, Port.CLIENT, b"12345678"), udp_bytes=15)) == 7


def test_without_room_for_all_that_the_sockets_serve_nobody_with_right_tokens_is_bounded(rig: Rig) -> None:
    begin(rig, session_datagrams_per_second=1000)
    users = range(ALICE, ALICE + 5)
    rig.authorize(("game", SESSION, tuple(users)))
    for user in users:
        comes(rig, user, "plain", 60 + user)
    rig.network.run(lambda: asyncio.run(rig.fast_path.tick()))
    assert passed(rig, frame(rig, "plain", ALICE, 99)) == MANY
    rig.authorize(("game", SESSION, tuple(users)[1:]))
    rig.network.run(lambda: asyncio.run(rig.fast_path.tick()))
    CLOCK.advance(1.0)
    assert passed(rig, frame(rig, "plain", BOB, 99)) == 5
    assert passed(rig, frame(rig, "plain", users[-1], 60 + users[-1])) == MANY


def test_with_more_pairs_than_fit_the_rest_joins_as_strangers_do_and_plays_without_a_bound(rig: Rig) -> None:
    users = range(ALICE, ALICE + 40)
    rig.authorize(("game", SESSION, tuple(users)))
    rig.network.run(lambda: asyncio.run(rig.fast_path.tick()))
    left_out = [user for user in users if rig.program.map("pairs").lookup(struct.pack("<II", user, SESSION)) is None]
    comes(rig, left_out[0], "plain", 60)
    assert passed(rig, frame(rig, "plain", left_out[0], 60)) == MANY
    assert passed(rig, frame(rig, "plain", left_out[1], 61)) == 7
