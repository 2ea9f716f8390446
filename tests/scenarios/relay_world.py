"""A relay process with its peers' sockets: on sockets alone, or with the kernel program on `lo` or on a veth pair."""

import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from relayd.core.wire import Port
from relayd.forwarding.kernel.attach import attach
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.integration.config import SessionKeys
from tests.integration.fast_path import bpf_file_system, own_network
from tests.integration.namespaces import Namespace
from tests.integration.relay_process import RelayProcess, datagrams_in
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.rig import RELAY
from tests.scenarios.scenarios import LIMITS, PLAYERS, Peer
from tests.scenarios.worlds import FIRST_USER, SERVER_SIDE, SESSION, Outcome, ip_of, peer_at

_ADDRESSES = range(50, 58)
_ANSWERED = ("forwarded", "answered")
_ON_SOCKETS = ("native", "python")


class RelayWorld:
    """A running relay.

    Args:
        relay: the relay.
        make_socket: makes a peer's socket, in the network where it belongs.
    """

    def __init__(self, relay: RelayProcess, make_socket: Callable[[Peer], socket.socket]) -> None:
        self.relay = relay
        self._make_socket = make_socket
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._revoked: set[int] = set()

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        key = peer.address, peer.family
        if key not in self._sockets:
            self._sockets[key] = self._make_socket(peer)
        before = self.relay.counts()
        self._sockets[key].sendto(datagram, (RELAY[peer.family], self.relay.address(port.label)[1]))
        moved = self.relay.counted_since(before, 1)
        assert datagrams_in(moved) == 1
        verdict = next(name for name in moved if " told " not in name).split()[1]
        told = any(" told " in name for name in moved)
        return Outcome(verdict, self._hear() if verdict in _ANSWERED or told else None)

    def _hear(self) -> tuple[tuple[int, int], bytes]:
        ready, _, _ = select.select(list(self._sockets.values()), [], [], PATIENCE_SECONDS)
        assert len(ready) == 1
        datagram = ready[0].recv(2048)
        return peer_at(ready[0].getsockname()[0]), datagram

    def wait(self, seconds: float) -> None:
        select.select([], [], [], seconds + 0.02)

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self.relay.write_sessions([session(self._revoked)])
        users = 1 + PLAYERS - len(self._revoked)
        eventually(lambda: self.relay.metrics()["relayd_users", "authorized"] == users, "the user is revoked")

    def close(self) -> None:
        heard = select.select(list(self._sockets.values()), [], [], 0)[0]
        for sock in self._sockets.values():
            sock.close()
        assert not heard, "somebody heard more than was expected"


def session(without: set[int]) -> SessionKeys:
    users = tuple(FIRST_USER + user for user in range(1 + PLAYERS) if user not in without)
    return SessionKeys("scenario", SESSION, users)


def _socket(peer: Peer) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if peer.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ip_of(peer), SERVER_SIDE))
    return sock


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def relay_world(folder: Path, where: str) -> Iterator[RelayWorld]:
    """A world.

    Args:
        folder: for files.
        where: "native" or "python" for a relay without the program, by what serves its sockets; "lo" or "veth" for
            one with it.
    """
    with ExitStack() as stack:
        stack.enter_context(own_network())
        pins = stack.enter_context(bpf_file_system(folder / "bpf"))
        make: Callable[[Peer], socket.socket] = _socket
        interface = "lo"
        if where == "veth":
            far = stack.enter_context(Namespace())
            interface = "cable"
            _ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(far.id))
            for address, length in ((RELAY[4], 24), (RELAY[6], 64)):
                _ip("address", "add", f"{address}/{length}", "dev", "cable", *(["nodad"] if ":" in address else []))
            _ip("link", "set", "cable", "up")
            for last in _ADDRESSES:
                far.ip("address", "add", f"10.77.0.{last}/24", "dev", "cable")
                far.ip("address", "add", f"fd77::{last:x}/64", "dev", "cable", "nodad")
            far.ip("link", "set", "cable", "up")
            # What XDP sends back through a veth only arrives where the other end runs XDP too: one that knows no port.
            idle = KernelProgram.load(Sizes(1, 1))
            stack.callback(idle.close)
            stack.callback(os.close, far.run(attach, idle.fd, "cable").fd)
            make = lambda peer: far.run(_socket, peer)  # noqa: E731
        else:
            for last in (1, *_ADDRESSES):
                _ip("address", "add", f"10.77.0.{last}/32", "dev", "lo")
                _ip("address", "add", f"fd77::{last:x}/128", "dev", "lo", "nodad")
        overrides: dict[str, dict[str, Any]] = {
            "relay": {"bind": [RELAY[4], RELAY[6]], "forwarder": where if where in _ON_SOCKETS else "auto"},
            "limits": dict(LIMITS),
            "fast_path": {"mode": "off"}
            if where in _ON_SOCKETS
            else {"mode": "require", "interfaces": [interface], "pin_directory": str(pins / "relayd")},
        }
        relay_folder = folder / "relay"
        relay_folder.mkdir()
        relay = RelayProcess(relay_folder, [session(set())], overrides, ("run", "--detach-on-exit"))
        with relay:
            world = RelayWorld(relay, make)
            yield world
            world.close()
