"""The kernel program under BPF_PROG_TEST_RUN on a virtual clock, and the engine for what it passes up."""

from collections.abc import Iterator
from contextlib import contextmanager

from relayd.core.wire import Port
from tests.scenarios.play import Outcome, Places
from tests.scenarios.rig import XDP_DROP, XDP_TX, Rig
from tests.scenarios.scenario import Scenario
from tests.scenarios.steps import Peer
from tests.scenarios.worlds import TableWorld, limits_of
from tests.support.virtual_clock import VirtualClock

ALL_PASSED_UP = {
    "unknown_per_second": 1_000_000,
    "unknown_per_source_per_second": 1_000_000,
    "known_per_second": 1_000_000,
    "known_per_user_per_second": 1_000_000,
}
"""So that the engine is asked about all that is not from a bound address, unless a scenario is about that."""


class KernelWorld(TableWorld):
    """One of those that a `Kernel` gives."""

    def __init__(self, scenario: Scenario, rig: Rig, clock: VirtualClock, checksum: str) -> None:
        super().__init__(scenario, Places(), clock)
        self.rig = rig
        self.by_kernel = 0
        """Datagrams that the engine was not asked about."""
        self._checksum = checksum
        self.table, self.engine = rig.table, rig.engine
        self.apply()

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        ip, udp_port = self.places.address(peer)[:2]
        # A checksum is a must over IPv6 (RFC 8200, 8.1).
        checksum = "full" if peer.family == 6 and self._checksum == "none" else self._checksum
        run, action = self.rig.handle(self.rig.frame(ip, udp_port, port, datagram, checksum))
        if action is not None:
            heard = (self.places.peer(action.to), action.datagram) if action.endpoint is not None else None
            return Outcome(action.verdict.label, heard)
        self.by_kernel += 1
        assert run.verdict is not None
        if run.exit == XDP_DROP:
            return Outcome(run.verdict.label, None)
        assert run.exit == XDP_TX
        parsed = run.parsed
        assert parsed.checksum_right
        packet = parsed.packet
        to = packet.destination, packet.destination_port, *((0, 0) if packet.is_ipv6 else ())
        return Outcome(run.verdict.label, (self.places.peer(to), packet.payload))

    def expire(self) -> None:
        super().expire()
        self.rig.fast_path.mirror.flush()

    def apply(self) -> None:
        super().apply()
        self.rig.fast_path.mirror.flush()

    def away(self, on: bool) -> None:
        if on:
            self.rig.close_sockets()
        else:
            self.rig.open_sockets()


class Kernel:
    """One loaded program, for any number of worlds one after another."""

    def __init__(self, rig: Rig, clock: VirtualClock) -> None:
        self._rig, self._clock = rig, clock

    def world(self, scenario: Scenario, checksum: str = "full") -> KernelWorld:
        """A new one.

        Args:
            scenario: what it is for.
            checksum: what UDP checksums are sent: "full", "partial" or, over IPv4, "none".
        """
        self._rig.restart(limits_of(scenario), scenario.fast_path or ALL_PASSED_UP)
        return KernelWorld(scenario, self._rig, self._clock, checksum)


@contextmanager
def loaded() -> Iterator[Kernel]:
    """The program in a network of its own."""
    clock = VirtualClock()
    with Rig(clock=clock) as rig:
        yield Kernel(rig, clock)
