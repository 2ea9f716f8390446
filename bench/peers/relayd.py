"""relayd itself, by one of its engines."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.load.content import Way, heads
from bench.load.generator import Generator
from bench.load.run import Ends, Load, Ways
from bench.load.shape import Shape
from bench.network import Network
from bench.peers.direct import addresses_of
from bench.peers.sessions import HOST, SESSION, player_token, write_sessions
from bench.peers.subject import Running, Start
from bench.ports import free_port, free_ports
from bench.processes import Program, answers, wait_for
from relayd.core.wire import (
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    STATE_DATAGRAM,
    TO_PLAYER_HEADER,
    State,
    decode_to_host,
    encode_host_data,
    encode_ping,
    encode_player_data,
    to_host_header,
)

DETACH = "--detach-on-exit"
"""What has relayd take the fast path off when it ends: else the next relay would be measured beneath its program."""

_AT_ONCE = 64
_PATIENCE_SECONDS = 10.0
_SETTLING_PER_SECOND = 40_000
_HELLO = struct.Struct("<BII")
"""As a KCP client's: channel, cookie, and then the flow. The cookie is not zero: this is no new connection."""
_VALID = STATE_DATAGRAM[State.VALID]


class RelaydDoor(NamedTuple):
    """Joins by the real protocol: hosts PING, players send DATA, and the host learns their connection ids from that."""

    server: tuple[str, int]
    client: tuple[str, int]

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Brings all in."""
        for sock in (*ends.hosts, *ends.clients):
            sock.settimeout(_PATIENCE_SECONDS)
        for sessions in _chunks(shape.sessions):
            for session in sessions:
                ends.hosts[session % len(ends.hosts)].sendto(
                    encode_ping(HOST + session, SESSION + session), self.server
                )
            for session in sessions:
                if ends.hosts[session % len(ends.hosts)].recv(2048) != _VALID:
                    raise RuntimeError(f"the host of session {session} was not let in")
        ids = [0] * shape.flows
        # Socket by socket: with whom a player shares one comes right before it and after it.
        clients = len(ends.clients)
        by_socket = [flow for first in range(clients) for flow in range(first, shape.flows, clients)]
        before: list[int] = []
        for chunk in _chunks(shape.flows):
            flows = by_socket[chunk.start : chunk.stop]
            for flow in flows:
                data = encode_player_data(
                    player_token(flow), SESSION + flow % shape.sessions, _HELLO.pack(1, 0xFFFFFFFF, flow)
                )
                ends.clients[flow % len(ends.clients)].sendto(data, self.client)
            for flow in flows:
                heard = decode_to_host(ends.hosts[flow % len(ends.hosts)].recv(2048))
                if heard is None:
                    raise RuntimeError("a host was not sent DATA")
                ids[_HELLO.unpack(heard[1])[2]] = heard[0]
            self._ping(ends, shape, [*before, *flows])
            before = flows
        return self._ways(shape, ids)

    def _ping(self, ends: Ends, shape: Shape, flows: list[int]) -> None:
        """Has players heard where others came after them: else the relay takes their address for that of the others."""
        for flow in flows:
            ping = encode_ping(player_token(flow), SESSION + flow % shape.sessions)
            ends.clients[flow % len(ends.clients)].sendto(ping, self.client)
        for flow in flows:
            if ends.clients[flow % len(ends.clients)].recv(2048) != _VALID:
                raise RuntimeError(f"the player of flow {flow} was not let in")

    def _ways(self, shape: Shape, ids: list[int]) -> Ways:
        sessions = [flow % shape.sessions for flow in range(shape.flows)]
        from_player = [
            encode_player_data(player_token(flow), SESSION + session, b"") for flow, session in enumerate(sessions)
        ]
        from_host = [
            encode_host_data(HOST + session, SESSION + session, ids[flow], b"") for flow, session in enumerate(sessions)
        ]
        return Ways(
            Way(
                heads(from_player),
                HEADER_BYTES,
                addresses_of([self.client], shape.flows),
                heads([to_host_header(one) for one in ids]),
                len(to_host_header(1)),
            ),
            Way(
                heads(from_host),
                HOST_DATA_HEADER_BYTES,
                addresses_of([self.server], shape.flows),
                heads([TO_PLAYER_HEADER] * shape.flows),
                len(TO_PLAYER_HEADER),
            ),
        )


def _chunks(count: int) -> Iterator[range]:
    for first in range(0, count, _AT_ONCE):
        yield range(first, min(first + _AT_ONCE, count))


class Relayd:
    """A relayd with a session file.

    Args:
        folder: for its files.
        network: where it is reached.
        shape: who is in the file.
        core: where it runs.
        options: sections of the configuration, laid over what the benchmark sets.
        outlives: whether fast path and sockets stay when relayd ends, as under systemd.
    """

    def __init__(
        self,
        folder: Path,
        network: Network,
        shape: Shape,
        core: int,
        options: dict[str, dict[str, Any]],
        outlives: bool = False,
    ) -> None:
        write_sessions(folder / "sessions.json", shape.sessions, shape.players)
        server_port, client_port = free_ports(2, socket.SOCK_DGRAM)
        sections: dict[str, dict[str, Any]] = {
            "relay": {
                "id": "bench",
                "bind": [network.relay_address],
                "server_port": server_port,
                "client_port": client_port,
            },
            "source": {"path": str(folder / "sessions.json")},
            "admin": {"bind": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"},
            "state": {"directory": str(folder / "state")},
            "limits": {"user_timeout": 3600.0, "max_bound_users": 0},
            "fast_path": {"mode": "off"},
            "log": {"level": "warning"},
        }
        for section, values in options.items():
            sections[section] = {**sections.get(section, {}), **values}
        self._url = f"http://{sections['admin']['bind']}"
        self.door = RelaydDoor(
            (network.relay_address, server_port),
            (network.relay_address, client_port),
        )
        command = ("run",) if outlives else ("run", DETACH)
        ports = ((network.relay_address, server_port), (network.relay_address, client_port))
        self.kept = [_bound(address) for address in ports] if outlives else []
        self.program = Program(folder, "relay", sections, *command, core=core, kept=self.kept)

    def close(self) -> None:
        """Lets go of the sockets."""
        for sock in self.kept:
            sock.close()

    def wait_until_ready(self) -> None:
        """Until it has its sessions."""

        def ready() -> bool:
            self.program.check_alive()
            return answers(f"{self._url}/readyz")

        wait_for(ready, "the relay is ready")

    def scrape(self) -> str:
        """Its metrics, as text."""
        return httpx.get(f"{self._url}/metrics", trust_env=False, timeout=60.0).raise_for_status().text

    def forwarded(self, family: str = "relayd_datagrams") -> int:
        """What it, or with ``relayd_fast_path_datagrams`` its kernel program, says to have forwarded."""
        return sum(
            int(sample.value)
            for metric in text_string_to_metric_families(self.scrape())
            if metric.name == family
            for sample in metric.samples
            if sample.labels.get("verdict") == "forwarded"
        )

    def settle_in_kernel(self, generator: Generator, way: int) -> None:
        """Returns when the kernel forwards for everybody."""
        each_once = 2 * generator.shape.flows
        load = Load(each_once / _SETTLING_PER_SECOND, _SETTLING_PER_SECOND)

        def all_by_kernel() -> bool:
            before = self.forwarded("relayd_fast_path_datagrams")
            tally = generator.run(load, way).tally
            return self.forwarded("relayd_fast_path_datagrams") - before == tally.sent

        wait_for(all_by_kernel, "the kernel forwards for everybody")


def _bound(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


@contextmanager
def running(
    generator: Generator,
    network: Network,
    folder: Path,
    core: int,
    fast_path: bool = False,
    options: dict[str, dict[str, Any]] | None = None,
    outlives: bool = False,
) -> Iterator[tuple[Relayd, Running]]:
    """A relayd that is ready, and how to measure it."""
    sections = dict(options or {})
    if fast_path:
        room = 2 * (generator.shape.flows + generator.shape.sessions)
        sections["fast_path"] = {
            "mode": "require",
            "interfaces": [network.interface],
            "max_bound_users": max(1024, room),
        }
    relay = Relayd(folder, network, generator.shape, core, sections, outlives)
    with closing(relay), relay.program:
        relay.wait_until_ready()
        settle = relay.settle_in_kernel if fast_path else None
        yield relay, Running(relay.door, [relay.program.pid], relay.forwarded, settle)


@contextmanager
def _start(
    fast_path: bool,
    options: dict[str, dict[str, Any]],
    generator: Generator,
    network: Network,
    folder: Path,
    core: int,
) -> Iterator[Running]:
    with running(generator, network, folder, core, fast_path, options) as (_, measured):
        yield measured


def starting(fast_path: bool = False, options: dict[str, dict[str, Any]] | None = None) -> Start:
    """What starts a relayd with the fast path or without, and with these sections of its configuration besides."""
    return partial(_start, fast_path, options or {})
