"""A game goes on over restarts and crashes of the relay, on the sockets that a service manager kept meanwhile."""

import asyncio
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.ports import free_ports
from relayd.core.wire import State
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.peers import Player
from tests.integration.config import SessionKeys, new_session
from tests.integration.managed_relay import ManagedRelay, Manager
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

PLAYERS = 8
RESTARTS = 5


class Keeper:
    """What a service manager does for a relay: keeps its sockets, hears what it says, starts it again."""

    def __init__(self, folder: Path, session: SessionKeys, **relay: Any) -> None:
        self._folder = folder
        self._session = session
        self._manager = Manager(str(folder / "notify"))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._ports = dict(zip(("server_port", "client_port"), free_ports(2), strict=True))
        self._relay = {**self._ports, **relay}
        self.kept = [self._open(self._ports["server_port"]), self._open(self._ports["client_port"])]
        self.relay: ManagedRelay

    def _open(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        return sock

    def _listen(self) -> None:
        try:
            while True:
                for fd in self._manager.hear().fds:
                    socket.close(fd)
        except OSError:
            return

    def start(self, first: bool = False) -> None:
        sessions = [self._session] if first else None
        relay = ManagedRelay(self._folder, self._manager, sessions, self.kept, **self._relay)
        relay._spawn()
        self.relay = relay

    def until_ready(self) -> None:
        eventually(self.relay._is_up, "the relay has sessions")

    def end(self, number: signal.Signals) -> None:
        self.relay.process.send_signal(number)
        self.relay.process.wait()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._listener.start()
        self.start(first=True)
        try:
            self.until_ready()
            yield
        finally:
            self.relay.kill()
            self._manager.close()
            for sock in self.kept:
                sock.close()

    def keys(self) -> GameKeys:
        server, client = (("127.0.0.1", port) for port in self._ports.values())
        return GameKeys(server, client, self._session.token, self._session.host, self._session.players)


@pytest.mark.parametrize(
    ("how", "forwarder", "state"),
    [
        (signal.SIGTERM, "native", "in memory"),
        (signal.SIGTERM, "python", "on the disk"),
        (signal.SIGKILL, "native", "in memory"),
        (signal.SIGKILL, "python", "on the disk"),
    ],
)
def test_a_game_goes_on_over_restarts(
    how: signal.Signals, forwarder: str, state: str, tmp_path: Path, hellos: Counter[type]
) -> None:
    if state == "in memory":
        (tmp_path / "run").mkdir()
    keeper = Keeper(tmp_path, new_session("restarts", players=PLAYERS), forwarder=forwarder)
    with keeper.running():
        game = Game(keeper.keys())

        async def play() -> None:
            task = asyncio.create_task(game.play())
            await asyncio.to_thread(eventually, lambda: _all_heard(game, 30), "everybody plays")
            for _ in range(RESTARTS):
                await asyncio.to_thread(restart)
            overflown.append(_overflown())
            game.stop()
            await task

        def restart() -> None:
            keeper.end(how)
            keeper.start()
            keeper.until_ready()
            heard = max(report.received for report in game.reports())
            eventually(lambda: _all_heard(game, heard + 5), "everybody plays on")

        overflown: list[int] = []
        asyncio.run(play())
        assert all(peer.states_seen == {State.VALID} for peer in (game.host, *game.players))
        assert len(game.host.all_connections()) == PLAYERS
        reports = game.reports()
        assert not any(report.unordered or report.corrupted or report.unreachable for report in reports), reports
        lost = sum(report.lost_to_host + report.lost_to_player for report in reports)
        # SIGKILL between taking a batch in and sending it on loses it, and so does a queue that is full while a busy
        # machine takes its time to start a relay; nothing else may lose anything.
        in_flight = (RESTARTS * PLAYERS if how is signal.SIGKILL else 0) + overflown[0]
        assert lost <= in_flight, reports
        sent = sum(player.sent for player in game.players) + hellos[Player]
        assert sent - in_flight <= _counted_to_host(keeper.relay) <= sent


def _overflown() -> int:
    """How many datagrams did not fit into the queues of this process's sockets, the kept ones among them (proc(5))."""
    own = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            own.add(str(os.fstat(int(link.name)).st_ino))
    lines = Path("/proc/thread-self/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(fields[12]) for fields in map(str.split, lines) if fields[9] in own)


def _all_heard(game: Game, messages: int) -> bool:
    return all(report.received > messages for report in game.reports())


def _counted_to_host(relay: RelayProcess) -> int:
    return int(relay.metrics()["relayd_datagrams_total", "client", "forwarded"])
