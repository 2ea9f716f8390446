"""``python -m bench soak --hours H``: relay and control plane for hours, with everything going on, and watched.

In a network namespace of its own: a control plane, a relay that follows it, a game of 8 players, sessions that come
and go through the API, and junk from unknown sources. In the first quarter the relay is restarted again and again, by
SIGTERM and by SIGKILL in turn, on sockets that stay. After that nothing may grow: the most of the last quarter is
compared with the most of the second.
"""

import asyncio
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvloop

from bench.machine import describe
from bench.namespace import enter
from bench.processes import ControlPlane, Program, answers, relay_sections, wait_for
from bench.sender import BatchSender
from relayd.core.wire import DATA, TYPE_OFFSET, encode_ping
from relayd.simulation.game import Game, GameKeys

_PLAYERS = 8
_JUNK_PER_SECOND = 1_000
_JUNK_BATCH, _JUNK_BYTES = 10, 40
_CHURN_PER_SECOND = 20
"""In an hour's first quarter more than relayd remembers of sessions that ended: memory should not grow after it."""
_CHURN_LIVES = 40
"""So many of the sessions made last are there at a time."""
_RESTARTS = 10
_LINES = 20
_MIB = 1 << 20


class Bound(NamedTuple):
    """What a figure may be at the end: this share of what it was, and so much more."""

    share: float
    more: float


_BOUNDS = {"memory MiB": Bound(1.1, 4.0), "descriptors": Bound(1.0, 8.0), "threads": Bound(1.0, 2.0)}
_DISK_BOUND = Bound(1.2, 2.0)


class Watched:
    """A process, or files, with what is read of it and what it may grow by."""

    def __init__(self, name: str, read: Callable[[], dict[str, float]], bounds: dict[str, Bound]) -> None:
        self.name = name
        self._read = read
        self._bounds = bounds
        self.now: dict[str, float] = {}
        self._most: dict[int, dict[str, float]] = {}

    def look(self, quarter: int) -> None:
        """One more look, in that quarter of the time."""
        self.now = self._read()
        most = self._most.setdefault(quarter, {})
        for figure, value in self.now.items():
            most[figure] = max(value, most.get(figure, 0.0))

    def grown(self) -> list[str]:
        """What is more in the last quarter than it may be, after what it was in the second."""
        before, after = self._most[1], self._most[3]
        return [
            f"{self.name}: {figure} grew from {before[figure]:,.1f} to {after[figure]:,.1f}"
            for figure, bound in self._bounds.items()
            if after[figure] > before[figure] * bound.share + bound.more
        ]


def main(hours: float) -> int:
    """Runs and prints. Returns 1 if something grew, or went backwards that only counts up."""
    enter("soak")
    print(describe())
    with tempfile.TemporaryDirectory() as name, ControlPlane(Path(name)) as control_plane:
        return _Soak(Path(name), control_plane).run(hours * 3600.0)


class _Soak:
    def __init__(self, folder: Path, control_plane: ControlPlane) -> None:
        self._api = control_plane.client
        self._sections = relay_sections(folder, control_plane.url)
        relay = self._sections["relay"]
        self._server = ("127.0.0.1", int(relay["server_port"]))
        self._client = ("127.0.0.1", int(relay["client_port"]))
        self._sockets = [_bound(self._server), _bound(self._client)]
        self._relay = Program(folder, "relay", self._sections, "run", kept=self._sockets)
        self._over = threading.Event()
        self._counted = 0
        self._churned = self._junk_sent = self._restarts = 0
        self._failures: list[str] = []
        self._watched = [
            Watched("relay", lambda: _process(self._relay.pid), _BOUNDS),
            Watched("control plane", lambda: _process(control_plane.pid), _BOUNDS),
            Watched("disk", lambda: {"MiB": _disk_bytes(folder) / _MIB}, {"MiB": _DISK_BOUND}),
        ]

    def run(self, seconds: float) -> int:
        with self._relay:
            self._wait_until_ready()
            work = [threading.Thread(target=self._work, args=(one,)) for one in (self._churn, self._junk, self._play)]
            for thread in work:
                thread.start()
            try:
                self._watch(seconds)
            finally:
                self._over.set()
                for thread in work:
                    thread.join()
        for watched in self._watched:
            self._failures += watched.grown()
        print(
            f"{self._restarts} restarts, {self._churned:,} sessions came and went, {self._junk_sent:,} junk datagrams"
        )
        print("\n".join(self._failures) or "nothing grew, nothing went backwards")
        return 1 if self._failures else 0

    def _watch(self, seconds: float) -> None:
        """Restarts in the first quarter; looks all the time."""
        began = time.monotonic()
        restart_every, line_every = seconds / 4 / (_RESTARTS + 1), seconds / _LINES
        line_at, restart_at = 0.0, restart_every
        print(f"{'min':>7} {'relay: MiB':>11} {'fds':>4} {'thr':>4} {'cp: MiB':>8} {'fds':>4} {'disk MiB':>9}", end="")
        print(f" {'sessions':>9} {'bound':>6} {'datagrams':>13}", flush=True)
        while (passed := time.monotonic() - began) < seconds:
            quarter = min(int(4 * passed / seconds), 3)
            if quarter == 0 and passed >= restart_at:
                restart_at += restart_every
                self._restart()
            for watched in self._watched:
                watched.look(quarter)
            metrics = self._metrics()
            if passed >= line_at:
                line_at += line_every
                self._print(passed, metrics)
            self._over.wait(min(1.0, line_every))

    def _print(self, passed: float, metrics: dict[str, float]) -> None:
        relay, control_plane, disk = (watched.now for watched in self._watched)
        print(
            f"{passed / 60:7.1f} {relay['memory MiB']:11.1f} {relay['descriptors']:4.0f} {relay['threads']:4.0f}"
            f" {control_plane['memory MiB']:8.1f} {control_plane['descriptors']:4.0f} {disk['MiB']:9.1f}"
            f" {metrics['sessions']:9.0f} {metrics['bound']:6.0f} {metrics['datagrams']:13,.0f}",
            flush=True,
        )

    def _metrics(self) -> dict[str, float]:
        """What the relay says of itself; its count of datagrams never goes back, over restarts neither."""
        text = httpx.get(f"http://{self._sections['admin']['bind']}/metrics", trust_env=False, timeout=10.0).text
        datagrams = _sum(text, "relayd_datagrams_total{")
        if datagrams < self._counted:
            self._failures.append(f"relay: its count of datagrams went from {self._counted:,} back to {datagrams:,.0f}")
        self._counted = int(datagrams)
        return {
            "datagrams": datagrams,
            "sessions": _sum(text, "relayd_sessions "),
            "bound": _sum(text, 'relayd_users{state="host"') + _sum(text, 'relayd_users{state="player"'),
        }

    def _restart(self) -> None:
        number = signal.SIGTERM if self._restarts % 2 == 0 else signal.SIGKILL
        self._restarts += 1
        self._relay.signal(number)
        self._relay.stop()
        self._relay.start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        wait_for(lambda: answers(f"http://{self._sections['admin']['bind']}/readyz"), "the relay is ready")

    # What goes on meanwhile

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told at the end, instead of by a thread that is not there any more
            self._failures.append(f"{work.__name__.strip('_')} ended: {error!r}")

    def _create(self, players: int) -> dict[str, Any]:
        users = {"users": [f"127.0.1.{number}" for number in range(1, players + 2)]}
        session: dict[str, Any] = self._api.post("/v1/relays/sessions", json=users).raise_for_status().json()
        while not session["ready"] and not self._over.wait(0.01):
            session = self._api.get(f"/v1/relays/sessions/{session['session_id']}").raise_for_status().json()
        return session

    def _churn(self) -> None:
        """Sessions whose users come once; each ends when there are enough newer ones."""
        there: list[str] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not self._over.wait(1 / _CHURN_PER_SECOND):
                session = self._create(players=3)
                there.append(session["session_id"])
                for number, user in enumerate(session.get("session_users", ())):
                    ping = encode_ping(user["authorization_token"], session["authorization_token"])
                    sock.sendto(ping, self._client if number else self._server)
                if len(there) > _CHURN_LIVES:
                    self._api.delete(f"/v1/relays/sessions/{there.pop(0)}").raise_for_status()
                self._churned += 1

    def _junk(self) -> None:
        """Random tokens, at a steady rate."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(self._client)
            sender = BatchSender(sock, [_JUNK_BYTES] * _JUNK_BATCH)
            while not self._over.wait(_JUNK_BATCH / _JUNK_PER_SECOND):
                junk = bytearray(os.urandom(sender.total_bytes))
                junk[TYPE_OFFSET::_JUNK_BYTES] = bytes((DATA,)) * _JUNK_BATCH
                sender.fill(junk)
                self._junk_sent += sender.send()

    def _play(self) -> None:
        """The same game all the time; it has to come through."""
        session = self._create(_PLAYERS)
        host, *players = (user["authorization_token"] for user in session["session_users"])
        keys = GameKeys(self._server, self._client, session["authorization_token"], host, tuple(players))
        uvloop.run(self._play_until_over(Game(keys)))

    async def _play_until_over(self, game: Game) -> None:
        playing = asyncio.create_task(game.play())
        await asyncio.to_thread(self._over.wait)
        game.stop()
        await playing
        reports = game.reports()
        sent = sum(report.sent + report.received + report.lost_to_player for report in reports)
        lost = sum(report.lost_to_host + report.lost_to_player for report in reports)
        longest_ms = max(report.longest_pause_seconds for report in reports) * 1e3
        print(f"game: {sent:,} messages, {lost:,} lost, longest pause {longest_ms:.0f} ms")
        if not all(report.became_valid for report in reports):
            self._failures.append("game: not everybody was let in")


def _bound(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


def _process(pid: int) -> dict[str, float]:
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    return {
        "memory MiB": int(fields["RssAnon"].split()[0]) / 1024,
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(fields["Threads"]),
    }


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _sum(text: str, beginning: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(beginning))
