"""Both socket forwarders in process, on a virtual clock, between real sockets on the loopback interface."""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvloop

from relayd.core.endpoint import Endpoint
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.judge import Judge
from relayd.forwarding.python.udp import UdpPorts
from relayd.forwarding.sockets import BoundSocket
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.play import LoopbackPlaces, Outcome
from tests.scenarios.scenario import Scenario
from tests.scenarios.steps import OWN, Peer
from tests.scenarios.worlds import TableWorld
from tests.support.virtual_clock import VirtualClock, thread_module
from tests.thread import compiled

if TYPE_CHECKING:
    from relayd.forwarding.thread._forwarder import Forwarder

_HEARD = (Verdict.FORWARDED, Verdict.ANSWERED)
_POLL_SECONDS = 0.001


class SocketWorld(TableWorld):
    """The relay's sockets and its peers'. IPv6 peers at other addresses are peers at other UDP ports here."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, LoopbackPlaces(), VirtualClock())
        self._peers: dict[tuple[int, int], socket.socket] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            bound = []
            for number, family in enumerate((4, 4, 6, 6)):
                sock = _open(self.places.relay[family])
                stack.callback(sock.close)
                sock.setblocking(False)
                bound.append(BoundSocket(Endpoint(Port(number % 2), number), sock))
            self._bound = bound
            self.records = Records(StateMemory(None, 0), self.clock)
            self.make_table()
            bad_sources = self.engine.bad_sources
            bad_sources.own_ports = {one.socket.getsockname()[1] for one in bound}
            bad_sources.own_addresses = self.places.relay.values()
            self.open(stack)
            self.apply()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._stack:
            heard = self._ready(0)
            for peer in self._peers.values():
                peer.close()
            assert kind is not None or not heard, "somebody heard more than was expected"

    def open(self, stack: ExitStack) -> None:
        """Has somebody serve the sockets until the stack ends."""
        raise NotImplementedError

    def judged(self, before: list[int]) -> list[Verdict]:
        """Lets the engine judge what is there. What was counted since."""
        raise NotImplementedError

    def counts(self) -> list[int]:
        """Datagrams by verdict, whoever decided."""
        return [sum(of_verdict) for of_verdict in zip(*self.engine.counters.datagrams, strict=True)]

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        before, told = self.counts(), self._told()
        self._socket(peer).sendto(datagram, self._bound[2 * (peer.family == 6) + port].socket.getsockname())
        (verdict,) = eventually(lambda: self.judged(before), "it is counted")
        heard = None
        if verdict in _HEARD or self._told() != told:
            (receiver,) = self._ready(PATIENCE_SECONDS)
            heard = receiver, self._peers[receiver].recv(2048)
        return Outcome(verdict.label, heard)

    def socket_of(self, peer: Peer) -> tuple[str, int]:
        ip, udp_port = self._socket(peer).getsockname()[:2]
        return ip, udp_port

    def _socket(self, peer: Peer) -> socket.socket:
        if peer.address == OWN:
            assert isinstance(peer.udp_port, Port)
            return self._bound[2 * (peer.family == 6) + peer.udp_port].socket
        assert isinstance(peer.address, int)
        key = peer.address, peer.family
        if key not in self._peers:
            self._peers[key] = self._open_elsewhere(self.places.address(peer)[0])
        return self._peers[key]

    def _open_elsewhere(self, ip: str) -> socket.socket:
        """At a port that no socket of the relay has in the other family: from there it would be a bad source."""
        with ExitStack() as unfit:
            while True:
                sock = _open(ip)
                if sock.getsockname()[1] not in self.engine.bad_sources.own_ports:
                    return sock
                unfit.enter_context(sock)

    def _ready(self, seconds: float) -> list[tuple[int, int]]:
        """Which peers have something to hear, once there is one."""
        ready = select.select(list(self._peers.values()), [], [], seconds)[0]
        assert ready or not seconds, "nobody heard anything"
        return [key for key, peer in self._peers.items() if peer in ready]

    def _told(self) -> int:
        return sum(map(sum, self.engine.counters.refusals_told))

    def moved(self, before: list[int]) -> list[Verdict]:
        return [Verdict(number) for number, count in enumerate(self.counts()) if count != before[number]]


class ThreadWorld(SocketWorld):
    """The forwarding thread, with the engine behind it.

    Args:
        scenario: what it is for.
        merge: whether several datagrams to one peer may leave as one.
    """

    def __init__(self, scenario: Scenario, merge: bool = True) -> None:
        super().__init__(scenario)
        self.by_thread = 0
        """Datagrams that the engine was not asked about."""
        self._merge = merge

    def open(self, stack: ExitStack) -> None:
        forwarder_type, set_clock = thread_module()
        self.clock.follow(set_clock)
        self._judge = Judge(self.engine, self._bound, self.records)
        endpoints = [(one.socket.fileno(), int(one.endpoint.port)) for one in self._bound]
        self.forwarder: Forwarder = forwarder_type(endpoints, self._merge, *self.records.counts)
        self._totals = [[(0, 0)] * len(Verdict) for _ in Port]
        self._flows = compiled.Flows(self.forwarder, self.table, self.records, lambda _flush: None)
        self.forwarder.start()
        stack.callback(self.forwarder.stop)

    def judged(self, before: list[int]) -> list[Verdict]:
        # The thread says nothing of what it drops for its rate: that is only counted.
        speaking: list[socket.socket | Forwarder] = [*self._peers.values(), self.forwarder]
        select.select(speaking, [], [], _POLL_SECONDS)
        while taken := self.forwarder.take(10):
            for number, data, source, local in taken:
                self._judge.receive(self._bound[number].endpoint, data, source, self.clock(), local)
        self._flows.flush()
        return self.moved(before)

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        before = self._decided()
        outcome = super().send(peer, port, datagram)
        self.by_thread += self._decided() - before
        return outcome

    def expire(self) -> None:
        super().expire()
        self._flows.flush()

    def counts(self) -> list[int]:
        counts = super().counts()
        for of_port in self._decisions():
            for verdict, (datagrams, _) in zip(Verdict, of_port, strict=True):
                counts[verdict] += datagrams
        return counts

    def _decided(self) -> int:
        return sum(datagrams for of_port in self._decisions() for datagrams, _ in of_port)

    def _decisions(self) -> list[list[tuple[int, int]]]:
        """What the thread decided so far."""
        self._totals = [
            [(had[0] + more[0], had[1] + more[1]) for had, more in zip(before, taken, strict=True)]
            for before, taken in zip(self._totals, self.forwarder.take_totals(), strict=True)
        ]
        return self._totals


class _Loop(uvloop.Loop):
    """uvloop, with another clock for whoever asks it for the time; its own timers go on as they are."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock()


class UvloopWorld(SocketWorld):
    """Python alone."""

    def open(self, stack: ExitStack) -> None:
        self._loop = _Loop(self.clock)
        stack.callback(self._loop.close)
        self._ports = UdpPorts(self.engine, self._bound, self.records)
        self._loop.run_until_complete(self._ports.start())
        stack.callback(self._close)

    def _close(self) -> None:
        self._ports.stop()
        self._loop.run_until_complete(asyncio.sleep(0))

    def judged(self, before: list[int]) -> list[Verdict]:
        self._loop.run_until_complete(asyncio.sleep(0))
        return self.moved(before)


def _open(ip: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ip, 0))
    return sock
