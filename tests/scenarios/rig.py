"""The kernel program under BPF_PROG_TEST_RUN, with the engine behind it for whatever it passes up. No traffic flows."""

import itertools
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.views import KeptCounts
from relayd.core.wire import Port
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.settings import Settings
from tests.integration.namespaces import Namespace
from tests.scenarios.frames import Packet, Parsed, build, parse
from tests.support.kept import NothingKept
from tests.support.virtual_clock import KERNEL_CLOCK, VirtualClock, kernel_program

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
RELAY = {4: "10.77.0.1", 6: "fd77::1"}
FIRST_CONNECTION = 0x0101
"""The same in all worlds: random bytes may happen to name one."""
PORTS = {Port.SERVER: 45000, Port.CLIENT: 45001}
_LONG_SECONDS = 1024.0


class Run(NamedTuple):
    """What became of one frame."""

    exit: int
    frame: bytes
    verdict: Verdict | None
    """What the program counted; None when it passed the frame up."""

    @property
    def parsed(self) -> Parsed:
        return parse(self.frame)


class Rig:
    """A network with the relay's addresses and sockets in it, the program with its maps, a table and an engine.

    Args:
        limits: [limits] of the configuration.
        fast_path: [fast_path] of the configuration.
        bound: how many bindings fit.
        authorized: how many pairs fit.
        dscp: of what the relay sends.
        content: an object in the place of the one in the tree.
        name: of its program.
        more_maps: that it has besides.
        clock: what all goes by in the place of the real time, which takes a program compiled for it.
    """

    def __init__(
        self,
        limits: dict[str, object] | None = None,
        fast_path: dict[str, object] | None = None,
        bound: int = 64,
        authorized: int = 256,
        dscp: int = 0,
        content: bytes | None = None,
        name: str = "relay",
        more_maps: tuple[str, ...] = (),
        clock: VirtualClock | None = None,
    ) -> None:
        if clock is not None:
            content, more_maps = kernel_program(), (KERNEL_CLOCK,)
        self._virtual = clock
        self.clock: Callable[[], float] = clock or time.monotonic
        self._dscp = dscp
        self.configure(limits, fast_path)
        self._content, self._name, self._more = content, name, more_maps
        self._sizes = Sizes(authorized, bound)
        self._stack = ExitStack()
        self.kept: KeptCounts = NothingKept()
        self.endpoints = [Endpoint(Port(number % 2), number) for number in range(4)]

    def configure(self, limits: Mapping[str, object] | None, fast_path: Mapping[str, object] | None) -> None:
        """Sets what the next `start` goes by."""
        self.settings = Settings.model_validate(
            {
                "relay": {
                    "bind": ["0.0.0.0", "::"],
                    "server_port": PORTS[Port.SERVER],
                    "client_port": PORTS[Port.CLIENT],
                    "dscp": self._dscp,
                },
                "limits": dict(limits or {}),
                "fast_path": dict(fast_path or {}),
            }
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.network = stack.enter_context(Namespace())
            self.network.ip("address", "add", f"{RELAY[4]}/24", "dev", "lo")
            self.network.ip("address", "add", f"{RELAY[6]}/64", "dev", "lo", "nodad")
            self.open_sockets()
            stack.callback(self.close_sockets)
            self.program = KernelProgram.load(self._sizes, content=self._content, name=self._name, more_maps=self._more)
            stack.callback(self.program.close)
            if self._virtual is not None:
                self._virtual.follow(self._set_clock)
            self._ids = itertools.count(FIRST_CONNECTION)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _set_clock(self, _seconds: float) -> None:
        assert self._virtual is not None
        self.program.map(KERNEL_CLOCK).put(0, self._virtual.nanoseconds.to_bytes(8, "little"))

    def start(self, adopt: bool = False) -> None:
        """Makes table and engine. With ``adopt`` they are those of a new process after a crash, over the same maps."""
        self.table = Table(self.settings.limits, lambda: next(self._ids))
        self.engine = Engine(self.table)
        self.engine.bad_sources.own_ports = PORTS.values()
        self.engine.bad_sources.own_addresses = {*RELAY.values(), "127.0.0.1"}
        self.fast_path = self.network.run(self.make_fast_path, adopt)

    def make_fast_path(self, adopt: bool) -> FastPath:
        waiting: Callable[[Callable[[], None]], None] = lambda _function: None  # noqa: E731
        endpoints = [(one, "::" if one.number // 2 else "0.0.0.0") for one in self.endpoints]
        return FastPath(
            settings=self.settings,
            engine=self.engine,
            endpoints=endpoints,
            program=self.program,
            pins=None,
            adopt=adopt,
            later=waiting,
            kept=self.kept,
            clock=self.clock,
        )

    def restart(self, limits: Mapping[str, object], fast_path: Mapping[str, object]) -> None:
        """Begins anew with other settings and nobody in the table, on the same program, which takes long to load.

        On a virtual clock, which is then so far ahead that nothing is remembered of what was before.
        """
        assert self._virtual is not None
        self.table.apply(Snapshot.of([]), self.clock())
        self.fast_path.mirror.flush()
        self._virtual.advance(_LONG_SECONDS)
        self.configure(limits, fast_path)
        self.start()

    def open_sockets(self) -> None:
        self._sockets = self.network.run(self._open_sockets)

    def _open_sockets(self) -> list[socket.socket]:
        opened = []
        for number in PORTS.values():
            for family in (socket.AF_INET, socket.AF_INET6):
                sock = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", number))
                opened.append(sock)
        return opened

    def close_sockets(self) -> None:
        """As if relayd were gone."""
        for sock in self._sockets:
            sock.close()

    def authorize(self, *sessions: tuple[str, int, tuple[int, ...]]) -> None:
        """Makes these sessions the table: id, token, users' tokens."""
        specs = [
            SessionSpec(session_id, token, tuple(UserSpec(user, None) for user in users))
            for session_id, token, users in sessions
        ]
        self.table.apply(Snapshot.of(specs), self.clock())
        self.fast_path.mirror.flush()

    def run(self, frame: bytes, ifindex: int = 0) -> Run:
        """Shows the program one frame."""
        before = self.totals()
        verdict, out, _ = self.network.run(libbpf.test_run, self.program.fd, frame, 1, ifindex)
        after = self.totals()
        counted = [Verdict(number) for number in range(len(Verdict)) if after[number] != before[number]]
        assert [after[number] - before[number] for number in counted] in ([], [1])
        assert (verdict == XDP_PASS) == (not counted)
        return Run(verdict, out, counted[0] if counted else None)

    def handle(self, frame: bytes, ifindex: int = 0) -> tuple[Run, Action | None]:
        """The same, and the engine handles what is passed up."""
        run = self.run(frame, ifindex)
        if run.exit != XDP_PASS:
            return run, None
        packet = _payload_of(frame)
        port = next(port for port, number in PORTS.items() if number == packet.destination_port)
        endpoint = self.endpoints[2 * packet.is_ipv6 + port]
        source: Address = (packet.source, packet.source_port, *((0, 0) if packet.is_ipv6 else ()))
        action = self.engine.handle(endpoint, packet.payload, source, self.clock())
        self.fast_path.mirror.flush()
        return run, action

    def totals(self) -> list[int]:
        """Datagrams by verdict, both ports together."""
        totals = self.fast_path.totals
        return [sum(totals._read(port, verdict)[0] for port in Port) for verdict in Verdict]

    def packet(self, source: str, source_port: int, port: Port, payload: bytes) -> Packet:
        """A datagram to the relay."""
        return Packet(source, source_port, RELAY[6 if ":" in source else 4], PORTS[port], payload)

    def frame(self, source: str, source_port: int, port: Port, payload: bytes, checksum: str | int = "full") -> bytes:
        return build(self.packet(source, source_port, port, payload), checksum)


def _payload_of(frame: bytes) -> Packet:
    """Of a frame as `build` makes it without anything special."""
    is_ipv6 = frame[12:14] == b"\x86\xdd"
    head = 54 if is_ipv6 else 34
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    addresses = frame[22:38] if is_ipv6 else frame[26:30]
    length = int.from_bytes(frame[head + 4 : head + 6], "big")
    return Packet(
        socket.inet_ntop(family, addresses),
        int.from_bytes(frame[head : head + 2], "big"),
        "::" if is_ipv6 else "",
        int.from_bytes(frame[head + 2 : head + 4], "big"),
        frame[head + 8 : head + length],
    )
