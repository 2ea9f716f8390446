"""``python -m bench flood``: a game of 8 players beside 100,000 junk datagrams a second with random tokens.

Everything runs in a network namespace of the benchmark's own, on its loopback interface: relayd as a process, the game
in another, the junk in a third. Needs root; it runs without and with the fast path.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from bench.machine import describe
from bench.namespace import enter
from bench.processes import Program, answers, free_port, wait_for
from bench.sender import BatchSender
from relayd.simulation.game import Game, GameKeys

PLAYERS = 8
JUNK_PER_SECOND = 100_000
FLOOD_SECONDS = 10.0
_BATCH = 100
_JUNK_BYTES = 40
_DATA_TYPE_OFFSET = 8
_SESSION, _HOST, _FIRST_PLAYER = 0xCAFE, 1000, 2000


class Outcome(NamedTuple):
    """What came of one run."""

    junk_sent: int
    relayd_cpu_share: float
    game: str


def main() -> None:
    """Runs and prints."""
    enter("flood")
    print(describe())
    print(f"{PLAYERS} players at 30 Hz, {JUNK_PER_SECOND:,} junk datagrams a second for {FLOOD_SECONDS:.0f} s")
    print(f"{'fast path':12}{'junk sent/s':>12}{'relayd, of one core':>22}  game")
    for mode in ("off", "require"):
        outcome = _run(mode)
        print(
            f"{'on' if mode == 'require' else 'off':12}{outcome.junk_sent / FLOOD_SECONDS:12,.0f}"
            f"{outcome.relayd_cpu_share:21.0%}  {outcome.game}",
            flush=True,
        )


def _run(mode: str) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_session(folder / "sessions.json", _SESSION, (_HOST, *_player_tokens()))
        sections = configuration(folder, mode)
        relay = Program(folder, "relay", sections, "run", "--detach-on-exit")
        with relay:
            wait_for(lambda: answers(f"http://{sections['admin']['bind']}/readyz"), "the relay is ready")
            return uvloop.run(_play_and_flood(sections["relay"], relay.pid))


def configuration(folder: Path, mode: str) -> dict[str, dict[str, Any]]:
    """A relay on the loopback interface, with that fast_path.mode."""
    return {
        "relay": {
            "id": f"bench-{os.getpid()}",
            "bind": ["127.0.0.1"],
            "server_port": free_port(socket.SOCK_DGRAM),
            "client_port": free_port(socket.SOCK_DGRAM),
        },
        "source": {"path": str(folder / "sessions.json")},
        "admin": {"bind": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"},
        "fast_path": {"mode": mode, "interfaces": ["lo"]},
        "log": {"level": "warning"},
    }


def write_session(path: Path, session_token: int, user_tokens: tuple[int, ...]) -> None:
    """A session file of one session."""
    users = [{"authorization_token": token} for token in user_tokens]
    session = {"session_id": "bench", "authorization_token": session_token, "session_users": users}
    path.write_text(json.dumps({"sessions": [session]}), encoding="utf-8")


def _player_tokens() -> tuple[int, ...]:
    return tuple(range(_FIRST_PLAYER, _FIRST_PLAYER + PLAYERS))


async def _play_and_flood(relay: dict[str, Any], relay_pid: int) -> Outcome:
    client = ("127.0.0.1", int(relay["client_port"]))
    game = Game(GameKeys(("127.0.0.1", int(relay["server_port"])), client, _SESSION, _HOST, _player_tokens()))
    playing = asyncio.create_task(game.play())
    await asyncio.to_thread(wait_for, lambda: all(report.received > 30 for report in game.reports()), "everybody plays")
    before_seconds = _cpu_seconds(relay_pid)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        junk_sent = await asyncio.to_thread(pool.apply, _flood, (client,))
    cpu_seconds = _cpu_seconds(relay_pid) - before_seconds
    game.stop()
    await playing
    reports = game.reports()
    sent = sum(report.sent + report.received + report.lost_to_player for report in reports)
    lost = sum(report.lost_to_host + report.lost_to_player for report in reports)
    return Outcome(junk_sent, cpu_seconds / FLOOD_SECONDS, f"{lost} of {sent} lost")


def _flood(address: tuple[str, int]) -> int:
    """Sends junk at the rate until the time is over. Returns how much."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sender = BatchSender(sock, _BATCH, _JUNK_BYTES)
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < FLOOD_SECONDS:
            ahead_seconds = sent / JUNK_PER_SECOND - now
            if ahead_seconds > 0:
                time.sleep(ahead_seconds)
            junk = bytearray(os.urandom(sender.total_bytes))
            junk[_DATA_TYPE_OFFSET::_JUNK_BYTES] = b"\x02" * _BATCH
            sender.fill(junk)
            sent += sender.send()
    return sent


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, its own and the kernel's on its behalf."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
