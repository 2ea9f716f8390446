"""A relay process with its peers' sockets: on sockets alone, or with the kernel program on `lo` or on a veth pair.

Real time passes here. A relay serves all scenarios that have the same limits, each with a session of its own.
"""

import os
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from relayd.core.wire import Port
from relayd.forwarding.kernel.attach import attach
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.integration.config import Sections, SessionKeys
from tests.integration.fast_path import bpf_file_system
from tests.integration.namespaces import Namespace
from tests.integration.programs import Process
from tests.integration.relay_process import Counts, RelayProcess, datagrams_in, difference
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.play import SERVER_SIDE, Outcome, Places, Tokens, ip_of
from tests.scenarios.rig import RELAY
from tests.scenarios.scenario import REBIND_AFTER, Scenario
from tests.scenarios.steps import PLAYERS, Peer
from tests.scenarios.worlds import limits_of

_ADDRESSES = range(50, 70)
_ANSWERED = ("forwarded", "answered")
_ON_SOCKETS = ("native", "python")
_PROMPT_SECONDS = 0.9 * REBIND_AFTER
"""No scenario expects more of a machine than all that is between two waits within this time."""
_NOBODYS = SessionKeys("nobody's", 0x5EC2_E700, (0x5EC2_E701,))
"""A source that has no session any more would look suspicious."""


class _RelayInNetwork(RelayProcess):
    """One in a network of its own, asked from within."""

    def __init__(self, network: Namespace, folder: Path, overrides: Sections) -> None:
        self._network = network
        super().__init__(folder, [_NOBODYS], overrides, ("run", "--detach-on-exit"))

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        return self._network.run(super()._popen, arguments, out, err)

    def request(self, method: str, path: str) -> tuple[int, str]:
        return self._network.run(super().request, method, path)


class RelayWorld:
    """One scenario's session at a running relay."""

    def __init__(self, scenario: Scenario, relay: RelayProcess, sockets: "PeerSockets", number: int) -> None:
        self.relay = relay
        self.tokens = Tokens(0xC3D9_0000 + number, 0x5A17_0000 + 0x100 * number)
        self._sockets = sockets
        self._id = f"scenario-{number}"
        self._named = {user: ip_of(peer) for user, peer in scenario.named.items()}
        self._revoked: set[int] = set()
        self._counts = relay.counts()
        self.begin()
        self._began = time.monotonic()
        self.late = False
        """Whether the machine was slower than the scenario takes for granted."""

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        self._sockets.of(peer).sendto(datagram, (RELAY[peer.family], self.relay.address(port.label)[1]))
        moved = eventually(self._moved, "it is counted")
        self._note_time()
        assert datagrams_in(moved) == 1
        verdict = next(name for name in moved if " told " not in name).split()[1]
        told = any(" told " in name for name in moved)
        return Outcome(verdict, self._sockets.hear() if verdict in _ANSWERED or told else None)

    def _moved(self) -> Counts:
        """The counters that moved since the last time."""
        before, self._counts = self._counts, self.relay.counts()
        return difference(self._counts, before)

    def _note_time(self) -> None:
        self.late |= time.monotonic() - self._began > _PROMPT_SECONDS

    def wait(self, seconds: float) -> None:
        self._note_time()
        select.select([], [], [], seconds + 0.02)
        self._began = time.monotonic()

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self._write()

    def begin(self) -> None:
        self._revoked.clear()
        self._write()

    def _write(self) -> None:
        users = [user for user in range(1 + PLAYERS) if user not in self._revoked]
        tokens, named = self.tokens.users(self._revoked), tuple(self._named.get(user) for user in users)
        self.relay.write_sessions([SessionKeys(self._id, self.tokens.session, tokens, named)])
        eventually(lambda: self._users() == len(users), "the session is as its source has it")

    def _users(self) -> int:
        if self.relay.get(f"/v1/sessions/{self._id}")[0] != 200:
            return 0
        return int(self.relay.metrics()["relayd_users", "authorized"])

    def end(self) -> None:
        self.relay.write_sessions([_NOBODYS])
        eventually(lambda: self.relay.get(f"/v1/sessions/{self._id}")[0] == 404, "the session has ended")

    def drain(self, on: bool) -> None:
        status, body = self.relay.request("POST" if on else "DELETE", "/v1/drain")
        assert status == 200, body


class PeerSockets:
    """Of all peers, in the network where they belong."""

    def __init__(self, network: Namespace) -> None:
        self._network = network
        self._sockets: dict[tuple[int | str, int], socket.socket] = {}

    def of(self, peer: Peer) -> socket.socket:
        key = peer.address, peer.family
        if key not in self._sockets:
            self._sockets[key] = self._network.run(_socket, peer)
        return self._sockets[key]

    def hear(self) -> tuple[tuple[int, int], bytes]:
        """Who heard what."""
        ready, _, _ = select.select(list(self._sockets.values()), [], [], PATIENCE_SECONDS)
        assert len(ready) == 1
        return Places().peer(ready[0].getsockname()), ready[0].recv(2048)

    def assert_silent(self) -> None:
        assert not select.select(list(self._sockets.values()), [], [], 0)[0], "somebody heard more than was expected"

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()


def _socket(peer: Peer) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if peer.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ip_of(peer), SERVER_SIDE))
    return sock


class Relays:
    """Relays one after another, each for as long as it has the limits that are asked for.

    Args:
        folder: for files.
        where: "native" or "python" for relays without the program, by what serves their sockets; "lo" or "veth" for
            those with it.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self._folder, self._where = folder, where
        self._running: dict[str, Any] | None = None
        """Settings of the one that runs."""
        self._number = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def world(self, scenario: Scenario) -> RelayWorld:
        """One for that scenario."""
        settings = {"limits": limits_of(scenario), "fast_path": dict(scenario.fast_path)}
        if settings != self._running:
            self._stop()
            self._start(settings)
            self._running = settings
        self._number += 1
        return RelayWorld(scenario, self._relay, self._sockets, self._number)

    def over(self, well: bool) -> None:
        """Ends the scenario. After one that failed, the next gets another relay."""
        try:
            if well:
                self._sockets.assert_silent()
        except AssertionError:
            well = False
            raise
        finally:
            if not well:
                self._stop()

    def _stop(self) -> None:
        self._running = None
        self._stack.close()

    def _start(self, settings: dict[str, Any]) -> None:
        with ExitStack() as stack:
            folder = self._folder / f"relay-{self._number}"
            folder.mkdir()
            network = stack.enter_context(Namespace())
            peers, interface = network, "lo"
            if self._where == "veth":
                peers, interface = stack.enter_context(Namespace()), "cable"
                _connect(stack, network, peers)
            else:
                network.ip_batch(_addresses((1, *_ADDRESSES), "lo", 32, 128))
            on_sockets = self._where in _ON_SOCKETS
            fast_path: dict[str, Any] = {"mode": "off"}
            if not on_sockets:
                pins = stack.enter_context(bpf_file_system(folder / "bpf"))
                fast_path = {"mode": "require", "interfaces": [interface], "pin_directory": str(pins / "relayd")}
            overrides: Sections = {
                "relay": {"bind": list(RELAY.values()), "forwarder": self._where if on_sockets else "auto"},
                "limits": settings["limits"],
                "fast_path": {**settings["fast_path"], **fast_path},
            }
            self._relay = stack.enter_context(_RelayInNetwork(network, folder, overrides))
            self._sockets = PeerSockets(peers)
            stack.callback(self._sockets.close)
            self._stack = stack.pop_all()


def _addresses(last_bytes: Iterable[int], interface: str, bits: int, bits_of_6: int) -> Iterator[str]:
    """For ip(8)."""
    for last in last_bytes:
        yield f"address add 10.77.0.{last}/{bits} dev {interface}"
        yield f"address add fd77::{last:x}/{bits_of_6} dev {interface} nodad"


def _connect(stack: ExitStack, network: Namespace, peers: Namespace) -> None:
    """A veth pair between the relay's network and the peers'."""
    network.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(peers.id))
    network.ip("address", "add", f"{RELAY[4]}/24", "dev", "cable")
    network.ip("address", "add", f"{RELAY[6]}/64", "dev", "cable", "nodad")
    network.ip("link", "set", "cable", "up")
    peers.ip_batch(_addresses(_ADDRESSES, "cable", 24, 64))
    peers.ip("link", "set", "cable", "up")
    # What XDP sends back through a veth only arrives where the other end runs XDP too: one that knows no port.
    idle = KernelProgram.load(Sizes(1, 1))
    stack.callback(idle.close)
    stack.callback(os.close, peers.run(attach, idle.fd, "cable").fd)
