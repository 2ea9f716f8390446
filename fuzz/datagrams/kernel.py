"""The kernel program under BPF_PROG_TEST_RUN, with the engine for what it passes up, beside an engine alone.

A relay's first batches are datagrams in sound frames, and both have to come to the same. Then come frames with
something wrong around the datagram: those the program may pass up or drop, but what it sends has to be sound, and is
counted.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from random import Random
from types import TracebackType
from typing import Any, Self

from fuzz.datagrams.mutate import FIRST_CONNECTION, Sent, sessions
from relayd.core.desired import Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.kernel import libbpf
from tests.scenarios.frames import Packet, Parsed, build, parse
from tests.scenarios.kernel_world import ALL_PASSED_UP
from tests.scenarios.rig import PORTS, RELAY, XDP_DROP, XDP_PASS, XDP_TX, Rig
from tests.support.virtual_clock import VirtualClock

_SOUND_BATCHES = 48
_LEAST_FRAME_BYTES = 14
"""An Ethernet header: the kernel runs no program on less."""
_MANY = 1 << 20
_ENDS = {XDP_DROP: "dropped", XDP_PASS: "passed up", XDP_TX: "sent"}


class Kernel(AbstractContextManager["Kernel"]):
    """The program, and the engine that it is compared with.

    Args:
        random: chooses what is wrong with frames.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._clock = VirtualClock()
        self._rig = Rig(clock=self._clock)
        self._batches = 0
        self._totals_before = [0] * len(Verdict)
        """Of the relays before this one."""

    def __enter__(self) -> Self:
        self._rig.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rig.__exit__(kind, error, at)

    def begin(self, limits: dict[str, object]) -> None:
        """See `Engine.begin`."""
        self._batches = 0
        self._rig._ids = itertools.count(FIRST_CONNECTION)
        self._rig.restart(limits, ALL_PASSED_UP)
        self._totals_before = self._rig.totals()
        ids = itertools.count(FIRST_CONNECTION)
        self._table = Table(self._rig.settings.limits, lambda: next(ids))
        self._alone = Engine(self._table)
        self._alone.bad_sources.own_ports = PORTS.values()
        self._alone.bad_sources.own_addresses = {*RELAY.values(), "127.0.0.1"}
        self.revoke(())

    def revoke(self, users: tuple[int, ...]) -> None:
        """See `Engine.revoke`."""
        for table in (self._table, self._rig.table):
            table.apply(Snapshot.of(sessions(users)), self._clock())
        self._rig.fast_path.mirror.flush()

    def wait(self, seconds: float) -> None:
        """See `Engine.wait`."""
        self._clock.advance(seconds)
        for table in (self._table, self._rig.table):
            table.expire(self._clock(), _MANY)
        self._rig.fast_path.mirror.flush()

    def deliver(self, batch: list[Sent]) -> Counter[str]:
        """See `Engine.deliver`."""
        self._batches += 1
        deliver: Callable[[list[Sent]], Counter[str]] = (
            self._deliver if self._batches <= _SOUND_BATCHES else self._deliver_odd
        )
        return self._rig.network.run(deliver, batch)

    def _deliver(self, batch: list[Sent]) -> Counter[str]:
        before = self._counted()
        for one in batch:
            exit_, out, _ = libbpf.test_run(self._rig.program.fd, _sound_frame(one))
            expected = self._alone.handle(self._endpoint(one), one.datagram, one.source, self._clock())
            if exit_ == XDP_PASS:
                action = self._rig.engine.handle(self._endpoint(one), one.datagram, one.source, self._clock())
                self._rig.fast_path.mirror.flush()
                assert action[:4] == expected[:4], f"{one}: {action}, and alone it is {expected}"
            elif exit_ == XDP_TX:
                _assert_sent(one, parse(out), expected)
            else:
                assert exit_ == XDP_DROP, f"{one}: the program ended with {exit_}"
                assert expected.endpoint is None, f"{one}: dropped, and alone it is {expected}"
        moved = self._counted() - before
        assert moved.total() == len(batch)
        return Counter({verdict.label: count for verdict, count in moved.items()})

    def _counted(self) -> Counter[Verdict]:
        """By both together; raises AssertionError where the engine alone counted otherwise."""
        by_program, by_engine = self._rig.totals(), self._rig.engine.counters.datagrams
        alone = self._alone.counters.datagrams
        counted: Counter[Verdict] = Counter()
        for verdict in Verdict:
            counted[verdict] = sum(alone[port][verdict] for port in Port)
            together = (
                by_program[verdict] - self._totals_before[verdict] + sum(by_engine[port][verdict] for port in Port)
            )
            assert counted[verdict] == together, f"{verdict.label}: {together}, and alone {counted[verdict]}"
        return counted

    def _endpoint(self, one: Sent) -> Endpoint:
        return self._rig.endpoints[2 * one.is_ipv6 + one.port]

    def _deliver_odd(self, batch: list[Sent]) -> Counter[str]:
        before, ends = self._rig.totals(), Counter[int]()
        for one in batch:
            frame = self._odd_frame(one)
            exit_, out, _ = libbpf.test_run(self._rig.program.fd, frame)
            assert exit_ in _ENDS, f"{frame.hex()}: the program ended with {exit_}"
            ends[exit_] += 1
            assert len(out) <= len(frame), f"{frame.hex()}: more left than came"
            if exit_ == XDP_TX:
                # What arrived with a wrong checksum leaves with one, and whoever it is for drops it.
                assert parse(out).checksum_right or not _is_right(frame), (
                    f"{frame.hex()}: it left with a wrong checksum"
                )
        counted = sum(self._rig.totals()) - sum(before)
        assert counted == ends.total() - ends[XDP_PASS], "what was dropped or sent is counted once, and nothing else is"
        return Counter({f"odd frame {_ENDS[exit_]}": count for exit_, count in ends.items()})

    def _odd_frame(self, one: Sent) -> bytes:
        choose = self._random
        kind = choose.randrange(10)
        length = 8 + len(one.datagram)
        if kind == 0 and not one.is_ipv6:
            return _frame(one, options=choose.randbytes(4 * choose.randint(1, 10)))
        if kind == 1 and not one.is_ipv6:
            return _frame(one, fragment=choose.choice((0x2000, 0x4000, 0x8000, 1, 0x1FFF, 0xFFFF)))
        if kind == 2:
            return _frame(
                one, udp_bytes=max(0, min(0xFFFF, length + choose.choice((-length, -8, -4, -1, 1, 4, 60_000))))
            )
        if kind == 3:
            return _frame(one, padding=choose.randbytes(choose.randint(1, 64)))
        if kind == 4:
            return _frame(one, choose.randrange(1 << 16))
        if kind == 5:
            return _frame(one, vlan=choose.random() < 0.5, multicast=choose.random() < 0.5, broken_ip=not one.is_ipv6)
        frame = bytearray(_frame(one, choose.choice(("full", "partial"))))
        if kind == 6:
            return bytes(frame[: choose.randint(_LEAST_FRAME_BYTES, len(frame))])
        # Any of its headers: Ethernet, IP and UDP.
        for _ in range(choose.randint(1, 4)):
            frame[choose.randrange(min(62, len(frame)))] ^= 1 << choose.randrange(8)
        return bytes(frame)


def _is_right(frame: bytes) -> bool:
    try:
        return parse(frame).checksum_right
    except AssertionError:
        return False


def _packet(one: Sent) -> Packet:
    return Packet(one.source[0], one.source[1], RELAY[6 if one.is_ipv6 else 4], PORTS[one.port], one.datagram)


@lru_cache(maxsize=1024)
def _sound_frame(one: Sent) -> bytes:
    return build(_packet(one))


def _frame(one: Sent, checksum: str | int = "full", **odd: Any) -> bytes:
    return build(_packet(one), checksum, **odd)


def _assert_sent(one: Sent, sent: Parsed, expected: Action) -> None:
    """What the program sent is what the engine would have."""
    assert expected.endpoint is not None, f"{one}: it sent something, and alone it is {expected}"
    packet = sent.packet
    port = PORTS[expected.endpoint.port]
    went = (packet.source_port, packet.destination, packet.destination_port, packet.payload)
    assert went == (port, *expected.to[:2], expected.datagram), f"{one}: {went}, and alone it is {expected}"
    assert sent.checksum_right, f"{one}: it left with a wrong checksum"
