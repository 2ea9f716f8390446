"""One load, from its first datagram until all have arrived or nothing more comes."""

import gc
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.cpu import CpuMeter, CpuTime
from bench.load.content import Kinds, Order, Way
from bench.load.lane import MOST_AT_ONCE, Lane
from bench.load.messages import stamp_arrivals
from bench.load.receiver import Receiver
from bench.load.tally import Tally, together

_MOST_PER_SECOND = 1_500_000
_FULL_SPEED_AT_ONCE = 64
_FORGIVEN_AFTER_SECONDS = 0.02
_IDLE_SECONDS = 0.001


Direction = Literal["to_host", "to_player"]


class Load(NamedTuple):
    """What to send. Rates and numbers are those of both directions together."""

    seconds: float
    per_second: float | None = None
    """None: as fast as can be, or as `window` allows."""
    window: int = 0
    """Closed loop: so many are under way at most, and one more is sent for each that arrived. 0: open loop."""
    directions: Sequence[Direction] = ("to_host", "to_player")
    every_seconds: float = 0.0005
    """Open loop: what is due is sent together, this often, the directions in turn."""
    stamped: bool = False
    """Whether to note when each arrived."""
    quiet_seconds: float = 0.1
    """The load is over when nothing has arrived for this long."""


class Outcome(NamedTuple):
    """What came of it, by direction."""

    tallies: Mapping[Direction, Tally]
    seconds: float
    """From the first datagram to the last that was sent."""
    drain_seconds: float
    """From the last that was sent to the last that arrived."""
    cpu: CpuTime
    times: Mapping[Direction, tuple[NDArray[np.int64], NDArray[np.int64]]]
    """The nanoseconds when each datagram was sent, and when it arrived or 0; none where the load was not `stamped`."""

    @property
    def tally(self) -> Tally:
        """All directions."""
        return together(list(self.tallies.values()))

    @property
    def per_second(self) -> float:
        """What was sent."""
        return self.tally.sent / self.seconds


class Ways(NamedTuple):
    """Both directions through one relay."""

    to_host: Way
    to_player: Way


class Ends(NamedTuple):
    """The sockets of all peers. Flow f is that of player socket f % len(clients) and host socket f % len(hosts)."""

    clients: list[socket.socket]
    hosts: list[socket.socket]
    flows: int
    block: int


def run_load(load: Load, ends: Ends, ways: Ways, kinds: Kinds, relay_pids: Sequence[int]) -> Outcome:
    """Runs one load in this process, which should have a core of its own."""
    limit = int((load.per_second or _MOST_PER_SECOND) * load.seconds / len(load.directions)) + MOST_AT_ONCE
    for sock in (*ends.clients, *ends.hosts):
        stamp_arrivals(sock, load.stamped)
    lanes: list[Lane] = []
    receivers: list[Receiver] = []
    with select.epoll() as poll:
        waiting: dict[int, tuple[Receiver, int]] = {}
        for direction in load.directions:
            senders, takers, way = ends.clients, ends.hosts, ways.to_host
            if direction == "to_player":
                senders, takers, way = ends.hosts, ends.clients, ways.to_player
            order = Order(ends.flows, len(senders), ends.block)
            lanes.append(Lane(senders, order, way, kinds, limit))
            receivers.append(Receiver(takers, order, way, kinds, limit, load.stamped))
            for number, sock in enumerate(takers):
                waiting[sock.fileno()] = receivers[-1], number
                poll.register(sock, select.EPOLLIN)
        run = _Run(load, lanes, receivers, poll, waiting)
        gc.collect()
        gc.disable()
        try:
            meter = CpuMeter(relay_pids, [os.getpid()])
            seconds = run.send_all()
            drain_seconds = run.wait_for_the_rest()
            cpu = meter.stop()
        finally:
            gc.enable()
    tallies = {name: end.tally(lane.sent) for name, lane, end in zip(load.directions, lanes, receivers, strict=True)}
    times = {
        name: (lane.sent_ns[: lane.sent], end.arrived_ns[: lane.sent])
        for name, lane, end in zip(load.directions, lanes, receivers, strict=True)
        if load.stamped
    }
    return Outcome(tallies, seconds, drain_seconds, cpu, times)


class _Run:
    def __init__(
        self,
        load: Load,
        lanes: list[Lane],
        receivers: list[Receiver],
        poll: select.epoll,
        waiting: dict[int, tuple[Receiver, int]],
    ) -> None:
        self._load = load
        self._lanes = lanes
        self._receivers = receivers
        self._poll = poll
        self._waiting = waiting

    def send_all(self) -> float:
        """Returns the seconds it took."""
        began = time.perf_counter()
        if self._load.per_second is None:
            self._send_as_fast_as_allowed(began + self._load.seconds)
        else:
            self._send_paced(began, self._load.per_second)
        return time.perf_counter() - began

    def _send_paced(self, began: float, per_second: float) -> None:
        each = per_second / len(self._lanes)
        total = int(each * self._load.seconds)
        every = self._load.every_seconds
        turn = 0
        # On a grid of moments: the same load has the same bursts, whatever it goes through.
        while any(lane.sent < total for lane in self._lanes):
            lane = self._lanes[turn % len(self._lanes)]
            due = min(total, int(((time.perf_counter() - began) // every + 1) * every * each))
            while lane.sent < due:
                lane.send(min(due - lane.sent, MOST_AT_ONCE))
            self._take(0)
            turn += 1
            ahead_seconds = began + turn * every - time.perf_counter()
            if ahead_seconds > 0:
                time.sleep(ahead_seconds)

    def _send_as_fast_as_allowed(self, until: float) -> None:
        window = self._load.window or 1 << 62
        forgiven, last_arrived, last_change = 0, 0, time.perf_counter()
        while (now := time.perf_counter()) < until:
            arrived = self._arrived
            under_way = self._sent - arrived - forgiven
            if arrived != last_arrived:
                last_arrived, last_change = arrived, now
            elif under_way >= window and now - last_change > _FORGIVEN_AFTER_SECONDS:
                forgiven += under_way
                under_way = 0
            for lane in self._lanes:
                room = len(lane.sent_ns) - lane.sent
                count = min(_FULL_SPEED_AT_ONCE, (window - under_way) // len(self._lanes), room)
                if count > 0:
                    lane.send(count)
            self._take(0 if under_way < window else _IDLE_SECONDS)

    def wait_for_the_rest(self) -> float:
        """Until all that was sent is there, or nothing has come for a while.

        Returns the seconds to the last arrival.
        """
        began = time.perf_counter()
        last_arrived, quiet_since = self._arrived, began
        while self._arrived < self._sent:
            self._take(_IDLE_SECONDS)
            now = time.perf_counter()
            if self._arrived != last_arrived:
                last_arrived, quiet_since = self._arrived, now
            elif now - quiet_since > self._load.quiet_seconds:
                break
        return quiet_since - began

    def _take(self, timeout_seconds: float) -> None:
        for fd, _ in self._poll.poll(timeout_seconds):
            receiver, number = self._waiting[fd]
            receiver.take(number)

    @property
    def _sent(self) -> int:
        return sum(lane.sent for lane in self._lanes)

    @property
    def _arrived(self) -> int:
        return sum(receiver.arrived for receiver in self._receivers)
