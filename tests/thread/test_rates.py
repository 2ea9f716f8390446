"""Rates in the forwarding thread: what is above one is dropped and counted, and the arithmetic is the core's."""

import ctypes
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.core.meter import NS_PER_SECOND, Meter, Rate
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping, encode_player_data
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, VALID, C, Rig, S, heard_by_now, received

pytestmark = compiled.needs_native

PING = encode_ping(ALICE, SESSION)
LATER_NS = 1000 * NS_PER_SECOND
Handed = tuple[int, int, int, int]


def due_later() -> int:
    return time.monotonic_ns() + LATER_NS


def bound(rig: Rig, meter: Handed) -> tuple[socket.socket, int]:
    """Alice with that meter: her socket and slot."""
    alice = rig.peer()
    return alice, rig.forwarder.add(int(C), alice.getsockname(), ALICE, SESSION, 7, meter)


@pytest.mark.parametrize("which", ["datagrams", "bytes"])
def test_what_is_above_the_rate_is_dropped_and_counted_and_is_heard_all_the_same(which: str) -> None:
    with Rig() as rig:
        meter = (10, 0, due_later(), 0) if which == "datagrams" else (0, 5000, 0, due_later())
        alice, slot = bound(rig, meter)
        before = time.monotonic()
        rig.send(alice, C, PING, PING)
        rig.fence(C)
        assert rig.totals() == {(C, Verdict.RATE_LIMITED): (2, 2 * len(PING))}
        assert (rig.forwarder.rate_limited(slot), rig.forwarder.counts(slot)) == (2, (0,) * 6)
        assert rig.forwarder.last_seen(slot) >= before
        assert heard_by_now(alice) == []
        assert rig.drain() == []


def test_a_burst_passes_and_the_rest_does_not() -> None:
    with Rig() as rig:
        alice, slot = bound(rig, (5, 0, 0, 0))
        rig.send(alice, C, *[PING] * 60)
        rig.fence(C)
        totals = rig.totals()
        answered, limited = totals[C, Verdict.ANSWERED][0], totals[C, Verdict.RATE_LIMITED][0]
        assert answered + limited == 60
        # Sending them takes some time, for which there is something more.
        assert 5 <= answered < 60
        assert rig.forwarder.rate_limited(slot) == limited
        assert received(alice, answered) == [VALID] * answered


def test_data_that_nobody_is_there_for_is_kept_from_the_owner_too() -> None:
    with Rig() as rig:
        alice, _ = bound(rig, (1, 0, due_later(), 0))
        rig.send(alice, C, *[encode_player_data(ALICE, SESSION, b"to no host")] * 3)
        rig.fence(C)
        assert rig.totals()[C, Verdict.RATE_LIMITED][0] == 3
        assert rig.drain() == []


def test_others_have_rates_of_their_own_or_none() -> None:
    with Rig() as rig:
        bound(rig, (1, 0, due_later(), 0))
        host, bob = rig.peer(), rig.peer()
        rig.bind(host, S, HOST)
        rig.bind(bob, C, BOB, connection_id=8)
        rig.send(bob, C, *[encode_player_data(BOB, SESSION, b"free")] * 100)
        assert received(host, 100) == [b"\x02\x08\0\0\0free"] * 100


def test_what_was_let_through_is_handed_over_and_back() -> None:
    with Rig() as rig:
        due_ns = due_later()
        alice, slot = bound(rig, (5, 5000, due_ns, 7))
        assert rig.forwarder.bare.remove(slot) == (due_ns, 7, None)
        rig.forwarder.bare.add(slot, int(C), alice.getsockname(), ALICE, SESSION, 7, (5, 5000, 0, 0))
        before_ns = time.monotonic_ns()
        rig.send(alice, C, PING)
        assert received(alice, 1) == [VALID]
        datagrams_due_ns, bytes_due_ns, _ = rig.forwarder.bare.remove(slot)
        after_ns = time.monotonic_ns()
        assert before_ns <= datagrams_due_ns - NS_PER_SECOND // 5 <= after_ns
        assert before_ns <= bytes_due_ns - len(PING) * NS_PER_SECOND // 5000 <= after_ns


# The arithmetic itself --------------------------------------------------------------------------------------------

_HEADER = Path(__file__).parents[2] / "relayd" / "forwarding" / "thread" / "meter.h"


_Two = ctypes.c_uint64 * 2


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("meter")
    source = folder / "meter.c"
    source.write_text(
        f'#include "{_HEADER}"\n'
        "int take(struct rate *r, struct dues *d, __u32 size, __u64 now) { return within_rate(r, d, size, now); }\n"
    )
    compiler = shutil.which("gcc") or "clang"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "meter.so"), str(source)], check=True)
    return ctypes.CDLL(str(folder / "meter.so"))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.builds(Rate, st.sampled_from([0, 1, 3, 7, 1000, 10_000_000]), st.sampled_from([0, 1200, 9999, 10**10])),
    st.lists(st.tuples(st.integers(9, 1200), st.integers(-1000, 2 * NS_PER_SECOND)), max_size=60),
)
def test_c_and_core_decide_alike_to_the_nanosecond(
    library: ctypes.CDLL, rate: Rate, steps: list[tuple[int, int]]
) -> None:
    core = Meter(rate)
    c_rate = _Two(NS_PER_SECOND // rate.datagrams if rate.datagrams else 0, rate.bytes)
    dues = _Two(0, 0)
    now = 1000.0
    for size, pause_ns in steps:
        now += pause_ns / NS_PER_SECOND
        taken = library.take(c_rate, dues, size, ctypes.c_uint64(int(now * NS_PER_SECOND)))
        assert bool(taken) == core.take(size, now)
        assert tuple(dues) == (core.datagrams_due_ns, core.bytes_due_ns)
