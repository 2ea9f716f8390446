"""Start, stop, end; what it leaves behind; and what it says to those who call it wrongly."""

import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relayd.core.declaration.common import TOTAL
from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping
from tests.integration.programs import REPOSITORY
from tests.integration.waiting import PATIENCE_SECONDS
from tests.support.descriptors import open_descriptors
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, VALID, C, Rig, S, received

pytestmark = compiled.needs_native

PING = encode_ping(ALICE, SESSION)
HERE = ("127.0.0.1", 5000)
MOST = 64


def threads() -> int:
    names = [task.joinpath("comm").read_text(encoding="ascii") for task in Path("/proc/self/task").iterdir()]
    return names.count("relayd-forward\n")


def test_it_can_be_stopped_and_started_again() -> None:
    with Rig(started=False) as rig:
        alice = rig.peer()
        rig.bind(alice, C, ALICE)
        rig.forwarder.stop()
        for _ in range(3):
            rig.send(alice, C, PING)
            rig.forwarder.start()
            assert alice.recv(100) == VALID
            with pytest.raises(RuntimeError, match="started already"):
                rig.forwarder.start()
            assert threads() == 1
            rig.forwarder.stop()
            rig.forwarder.stop()
            assert threads() == 0


def test_nothing_is_lost_while_it_stops_and_starts_under_load() -> None:
    with Rig() as rig:
        alice = rig.peer()
        rig.bind(alice, C, ALICE)
        for _ in range(200):
            rig.send(alice, C, *[PING] * 30)
            rig.forwarder.stop()
            rig.forwarder.start()
            assert received(alice, 30) == [VALID] * 30
        rig.forwarder.stop()
        assert rig.totals() == {(C, Verdict.ANSWERED): (6000, 6000 * len(PING))}


def test_signals_are_not_its_business() -> None:
    alarms = 0

    def count(number: int, frame: Any) -> None:
        nonlocal alarms
        alarms += 1

    before = signal.signal(signal.SIGALRM, count)
    try:
        with Rig() as rig:
            alice = rig.peer()
            rig.bind(alice, C, ALICE)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            while alarms < 100:
                rig.send(alice, C, PING)
                assert alice.recv(100) == VALID
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_it_ends_with_its_last_reference() -> None:
    before = open_descriptors()
    for _ in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            forwarder = compiled.Forwarder([(sock.fileno(), int(S))], True)
            forwarder.start()
            assert threads() == 1
            del forwarder
            assert threads() == 0
    assert open_descriptors() <= before


def test_one_that_could_not_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = open_descriptors()
        for wrong in (file.fileno(), -1, sock.fileno()):
            with pytest.raises(OSError, match="Errno"):
                compiled.Forwarder([(sock.fileno(), int(S)), (wrong, int(C))], True)
        assert open_descriptors() <= before


_FORGETFUL = """
import mmap, socket, sys
from relayd.forwarding.thread._forwarder import Forwarder
relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
relay.bind(("127.0.0.1", 0))
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.bind(("127.0.0.1", 0))
forwarder = Forwarder([(relay.fileno(), 1)], True, mmap.mmap(-1, 1 << 16), 0, 4096, 128)
forwarder.add(1, 0, peer.getsockname(), 1, 2, 3)
forwarder.start()
cycle = [forwarder]
cycle.append(cycle)
for _ in range(100):
    peer.sendto(bytes((1, 0, 0, 0, 2, 0, 0, 0, 1)), relay.getsockname())
    relay.sendto(b"junk", relay.getsockname())
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "del forwarder, cycle", "relay.close()", "forwarder.stop()"])
def test_an_interpreter_that_ends_while_it_runs_ends_well(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", _FORGETFUL + end],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_as_many_sockets_as_it_takes() -> None:
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(MOST + 1)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        endpoints = [(sock.fileno(), number % 2) for number, sock in enumerate(sockets)]
        with pytest.raises(ValueError, match="more than 64 sockets"):
            compiled.Forwarder(endpoints, True)
        forwarder = compiled.Forwarder(endpoints[:MOST], True)
        forwarder.start()
        for number, sock in enumerate(sockets[:MOST]):
            peer = sockets[MOST]
            forwarder.add(number, peer.getsockname(), number, number, 1)
            peer.sendto(encode_ping(number, number), sock.getsockname())
            peer.settimeout(PATIENCE_SECONDS)
            assert peer.recvfrom(100) == (VALID, sock.getsockname())
        forwarder.stop()
    finally:
        for sock in sockets:
            sock.close()


def test_it_may_have_no_sockets_at_all() -> None:
    forwarder = compiled.Forwarder([], True)
    forwarder.start()
    with pytest.raises(ValueError, match="0: no such endpoint"):
        forwarder.add(0, HERE, 1, 2, 3)
    forwarder.stop()


def test_delays_are_one_for_each_batch() -> None:
    bounds = DELAY_BOUNDS_NS.values
    assert list(bounds) == sorted(set(bounds))
    with Rig() as rig:
        alice = rig.peer()
        rig.bind(alice, C, ALICE)
        counts, seconds = rig.forwarder.delays()
        assert (sum(counts), seconds) == (0, 0.0)
        assert len(counts) == len(bounds) + 1
        for sent in range(1, 20):
            rig.send(alice, C, PING)
            assert alice.recv(100) == VALID
            # The answer leaves before it is noted.
            rig.forwarder.stop()
            rig.forwarder.start()
            counts, seconds = rig.forwarder.delays()
            assert sum(counts) == sent
            assert seconds > 0


def test_last_seen_follows_what_is_heard() -> None:
    with Rig() as rig:
        alice, stranger = rig.peer(), rig.peer()
        slot = rig.bind(alice, C, ALICE)
        bound = rig.forwarder.last_seen(slot)
        rig.send(stranger, C, PING)
        rig.fence(C)
        assert rig.forwarder.last_seen(slot) == bound
        rig.send(alice, C, PING)
        rig.fence(C)
        assert rig.forwarder.last_seen(slot) > bound


def test_it_is_readable_while_there_is_something_to_take() -> None:
    with Rig() as rig:
        alice = rig.peer()
        for _ in range(500):
            rig.send(alice, C, b"junk")
            # Not waited for by its descriptor: it may be taken before that is written to.
            while not rig.forwarder.take(1):
                pass
            rig.fence(C)
            assert rig.forwarder.take(1) == []
            assert select.select([rig.forwarder], [], [], 0)[0] == []
        rig.send(alice, C, b"junk")
        assert select.select([rig.forwarder], [], [], 10)[0] == [rig.forwarder]


def counting_at(memory: Any, totals_at: int, counts_at: int, stride: int) -> object:
    return compiled.BareForwarder([], True, memory, totals_at, counts_at, stride)


def test_all_that_it_counts_in_is_in_the_memory_to_the_last_byte() -> None:
    totals_bytes = len(Port) * len(Verdict) * TOTAL.size_bytes
    size_bytes, stride = 8192, 128
    last_totals, last_counts = size_bytes - totals_bytes, size_bytes - stride
    counting_at(bytearray(size_bytes), last_totals, last_counts, stride)
    for totals_at, counts_at in ((last_totals + 8, 0), (0, last_counts + 64)):
        with pytest.raises(ValueError, match="not in the memory"):
            counting_at(bytearray(size_bytes), totals_at, counts_at, stride)


def adds(*arguments: Any) -> Callable[[Any], object]:
    return lambda forwarder: forwarder.add(*arguments)


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (adds(2, HERE, 1, 2, 3), ValueError, "2: no such endpoint"),
        (adds(-1, HERE, 1, 2, 3), OverflowError, "negative"),
        (adds(1 << 32, HERE, 1, 2, 3), OverflowError, "more than 32 bits"),
        (adds(1, HERE, 1 << 32, 2, 3), OverflowError, "more than 32 bits"),
        (adds(1, HERE, 1, (1 << 63) + 2, 3), OverflowError, "more than 32 bits"),
        (adds(1, HERE, 1, -2, 3), OverflowError, "negative"),
        (adds(1, HERE, 1, 2, 1 << 70), OverflowError, "too large"),
        (adds(1, HERE, 1, 2, 3.0), TypeError, "integer"),
        (lambda forwarder: forwarder.bare.add(9, 1, HERE, 1, 2), TypeError, "6 arguments"),
        (lambda forwarder: forwarder.bare.add(0, 1, HERE, 1, 2, 3), ValueError, "0: no such slot"),
        (lambda forwarder: forwarder.bare.add(1, 1, HERE, 1, 2, 3), ValueError, "1: no such slot, or not a free one"),
        (lambda forwarder: forwarder.bare.add(compiled.SLOTS, 1, HERE, 1, 2, 3), ValueError, "no such slot"),
        (adds(1, ["127.0.0.1", 5000], 1, 2, 3), TypeError, "must be tuple"),
        (adds(1, (), 1, 2, 3), TypeError, "at least 2 arguments"),
        (adds(1, ("127.0.0.1", 65536), 1, 2, 3), ValueError, "65536: no UDP port"),
        (adds(1, ("127.0.0.1", -1), 1, 2, 3), OverflowError, "negative"),
        (adds(1, ("localhost", 5000), 1, 2, 3), ValueError, "localhost: no IP address"),
        (adds(1, ("fe80::1%eth0", 5000), 1, 2, 3), ValueError, "no IP address"),
        (adds(1, ("1.2.3.4\0", 5000), 1, 2, 3), ValueError, "null character"),
        (adds(1, HERE, ALICE, SESSION, 8), ValueError, "there already"),
        (adds(1, HERE, BOB, SESSION, 7), ValueError, "there already"),
        (adds(0, HERE, BOB, SESSION, 0), ValueError, "there already"),
        (lambda forwarder: forwarder.bare.remove(0), KeyError, "0: no such flow"),
        (lambda forwarder: forwarder.bare.remove(1 << 32), KeyError, "no such flow"),
        (lambda forwarder: forwarder.bare.take_counts(compiled.SLOTS), KeyError, "no such slot"),
        (lambda forwarder: forwarder.bare.take_counts(1 << 32), KeyError, "no such slot"),
        (lambda forwarder: forwarder.bare.take_counts(-1), OverflowError, "negative"),
        (lambda forwarder: forwarder.bare.take_counts("1"), TypeError, "int"),
        (lambda forwarder: forwarder.bare.pings(compiled.SLOTS), KeyError, "no binding had that slot"),
        (lambda forwarder: forwarder.bare.pings(compiled.SLOTS - 1), KeyError, "no binding had that slot"),
        (lambda forwarder: forwarder.bare.pings(-1), OverflowError, "negative"),
        (lambda forwarder: forwarder.take(-1), OverflowError, "negative"),
        (lambda forwarder: forwarder.take(None), TypeError, "int"),
        (lambda _: compiled.Forwarder([[3, 1]], True), TypeError, "tuple of file descriptor and port"),  # type: ignore[list-item]
        (lambda _: compiled.Forwarder([(3,)], True), TypeError, "2 arguments"),  # type: ignore[list-item]
        (lambda _: compiled.Forwarder([(0, 2)], True), ValueError, "2: no such port"),
        (lambda _: compiled.Forwarder((), True), TypeError, "must be list"),  # type: ignore[arg-type]
        (lambda _: counting_at(bytes(8192), 0, 4096, 128), TypeError, "read-write"),
        (lambda _: counting_at(bytearray(8192), -8, 4096, 128), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 0, 8192, 128), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 0, 4096, 32), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 8100, 4096, 128), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), (1 << 63) - 8, 4096, 128), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 0, (1 << 63) - 64, 128), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 0, 4096, (1 << 63) - 64), ValueError, "not in the memory"),
        (lambda _: counting_at(bytearray(8192), 0, 4096, 1 << 63), OverflowError, "too large"),
    ],
)
def test_what_is_called_wrongly_says_so_and_changes_nothing(
    call: Callable[[Any], object], kind: type[Exception], says: str
) -> None:
    with Rig() as rig:
        host, alice = rig.peer(), rig.peer()
        slots = [rig.bind(host, S, HOST), rig.bind(alice, C, ALICE, connection_id=7)]
        with pytest.raises(kind, match=says):
            call(rig.forwarder)
        rig.send(alice, C, encode_ping(ALICE, SESSION)[:8] + b"\x02hello")
        assert host.recv(100) == b"\x02\x07\0\0\0hello"
        for slot in slots:
            rig.forwarder.remove(slot)
