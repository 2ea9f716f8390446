"""The forwarding thread in process, between real sockets on the loopback interface, with the engine behind it."""

import itertools
import select
import socket
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from relayd.core.desired import Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.judge import Judge
from relayd.forwarding.sockets import BoundSocket
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.rig import FIRST_CONNECTION
from tests.scenarios.scenarios import LIMITS, Peer
from tests.scenarios.worlds import Outcome, specs
from tests.thread import compiled

if TYPE_CHECKING:
    from relayd.forwarding.thread._forwarder import Forwarder

_LOOPBACK = {4: ("127.0.0.1", socket.AF_INET), 6: ("::1", socket.AF_INET6)}
_HEARD = (Verdict.FORWARDED, Verdict.ANSWERED)


class ForwarderWorld:
    """Peers at other addresses are peers at other UDP ports here."""

    def __init__(self, merge: bool = True) -> None:
        self.by_thread = 0
        self._merge = merge
        self._revoked: set[int] = set()
        self._peers: dict[tuple[int, int], socket.socket] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            bound = []
            for number, family in enumerate((4, 4, 6, 6)):
                sock = stack.enter_context(_open(family))
                sock.setblocking(False)
                bound.append(BoundSocket(Endpoint(Port(number % 2), number), sock))
            self._bound = bound
            ids = itertools.count(FIRST_CONNECTION)
            self.table = Table(Limits.model_validate(LIMITS), lambda: next(ids))
            self.engine = Engine(self.table)
            records = Records(StateMemory(None, 0), time.monotonic)
            self._judge = Judge(self.engine, bound, records)
            self.forwarder = compiled.BareForwarder(
                [(one.socket.fileno(), int(one.endpoint.port)) for one in bound], self._merge, *records.counts
            )
            self._totals = [[(0, 0)] * len(Verdict) for _ in Port]
            compiled.Flows(self.forwarder, self.table, records)
            self.table.apply(Snapshot.of(specs(set())), time.monotonic())
            self.forwarder.start()
            stack.callback(self.forwarder.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._stack:
            heard = self._ready(0)
            for peer in self._peers.values():
                peer.close()
            assert kind is not None or not heard, "somebody heard more than was expected"

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        key = peer.address, peer.family
        if key not in self._peers:
            self._peers[key] = _open(peer.family)
        before, by_thread = self._counts(), self._decided()
        told = self._told()
        self._peers[key].sendto(datagram, self._bound[2 * (peer.family == 6) + port].socket.getsockname())
        # The thread itself never drops anything in silence: either somebody hears of it, or the engine does.
        self._ready(PATIENCE_SECONDS, self.forwarder)
        self._judge_all()
        (verdict,) = eventually(lambda: self._moved(before), "it is counted")
        self.by_thread += self._decided() - by_thread
        heard = None
        if verdict in _HEARD or self._told() != told:
            (receiver,) = self._ready(PATIENCE_SECONDS)
            heard = receiver, self._peers[receiver].recv(2048)
        return Outcome(verdict.label, heard)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self.table.apply(Snapshot.of(specs(self._revoked)), time.monotonic())

    def _ready(self, seconds: float, *others: "socket.socket | Forwarder") -> list[tuple[int, int]]:
        """Which peers have something to hear, once there is one, or one of the others is readable."""
        ready = select.select([*self._peers.values(), *others], [], [], seconds)[0]
        assert ready or not seconds, "nothing became of it"
        return [key for key, peer in self._peers.items() if peer in ready]

    def _judge_all(self) -> None:
        while taken := self.forwarder.take(10):
            for number, data, source in taken:
                self._judge.receive(self._bound[number].endpoint, data, source, time.monotonic())

    def _counts(self) -> list[int]:
        """Datagrams by verdict, whoever decided."""
        counts = [sum(of_verdict) for of_verdict in zip(*self.engine.counters.datagrams, strict=True)]
        for of_port in self._decisions():
            for verdict, (datagrams, _) in zip(Verdict, of_port, strict=True):
                counts[verdict] += datagrams
        return counts

    def _moved(self, before: list[int]) -> list[Verdict]:
        return [Verdict(number) for number, count in enumerate(self._counts()) if count != before[number]]

    def _decided(self) -> int:
        return sum(datagrams for of_port in self._decisions() for datagrams, _ in of_port)

    def _decisions(self) -> list[list[tuple[int, int]]]:
        """What the thread decided so far."""
        self._totals = [
            [(had[0] + more[0], had[1] + more[1]) for had, more in zip(before, taken, strict=True)]
            for before, taken in zip(self._totals, self.forwarder.take_totals(), strict=True)
        ]
        return self._totals

    def _told(self) -> int:
        return sum(map(sum, self.engine.counters.refusals_told))


def _open(family: int) -> socket.socket:
    ip, kind = _LOOPBACK[family]
    sock = socket.socket(kind, socket.SOCK_DGRAM)
    sock.bind((ip, 0))
    return sock
