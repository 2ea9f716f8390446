"""``python -m bench flood``: a game of 8 players beside 150,000 junk datagrams a second of all kinds, for a minute.

Everything runs in a network namespace of the benchmark's own, on its loopback interface: relayd as a process, the game
in another, the junk (bench/junk.py) in a third. Needs root; it runs without and with the fast path.
"""

import asyncio
import json
import multiprocessing
import os
import random
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from bench.junk import Target, flood
from bench.machine import describe, resident_bytes
from bench.namespace import enter
from bench.ports import free_port
from bench.processes import Program, answers, wait_for
from relayd.simulation.game import Game, GameKeys

PLAYERS = 8
JUNK_PER_SECOND = 150_000
FLOOD_SECONDS = 60.0
_SESSION, _HOST, _FIRST_PLAYER = 0xCAFE, 1000, 2000
_QUARTERS = 4


class Outcome(NamedTuple):
    """What came of one run."""

    junk_sent: int
    relayd_cpu_share: float
    memory_bytes: Sequence[int]
    """Before the flood, and then at each quarter of it."""
    messages: int
    lost: int
    longest_pause_seconds: float
    verdicts: dict[str, int]


def main() -> None:
    """Runs and prints."""
    enter("flood")
    seed = random.randrange(1 << 32)
    console = Console(stderr=True)
    print(describe())
    load = f"{JUNK_PER_SECOND:,} junk datagrams a second for {FLOOD_SECONDS:.0f} s"
    print(f"{PLAYERS} players at 30 Hz; {load}; seed {seed}")
    print(f"{'fast path':10}{'junk/s':>9}{'relayd, of one core':>21}{'memory, MB':>22}  game")
    outcomes = {}
    for name, mode in (("off", "off"), ("on", "require")):
        with console.status(f"fast path {name}: {FLOOD_SECONDS:.0f} s of junk"):
            outcomes[name] = outcome = _run(mode, seed)
        memory = " ".join(f"{one / 1e6:.0f}" for one in outcome.memory_bytes)
        pause_ms = outcome.longest_pause_seconds * 1e3
        print(
            f"{name:10}{outcome.junk_sent / FLOOD_SECONDS:9,.0f}{outcome.relayd_cpu_share:21.0%}{memory:>22}"
            f"  {outcome.lost} of {outcome.messages:,} lost, longest pause {pause_ms:.0f} ms",
            flush=True,
        )
    print(f"\n{'verdict':20}" + "".join(f"{'fast path ' + name:>16}" for name in outcomes))
    for verdict in sorted(set().union(*(outcome.verdicts for outcome in outcomes.values()))):
        print(f"{verdict:20}" + "".join(f"{outcome.verdicts.get(verdict, 0):16,}" for outcome in outcomes.values()))


def _run(mode: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_session(folder / "sessions.json", _SESSION, (_HOST, *_player_tokens()))
        sections = configuration(folder, mode)
        relay = Program(folder, "relay", sections, "run", "--detach-on-exit")
        with relay:
            admin = f"http://{sections['admin']['bind']}"
            wait_for(lambda: answers(f"{admin}/readyz"), "the relay is ready")
            return uvloop.run(_play_and_flood(sections["relay"], relay.pid, f"{admin}/metrics", seed))


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
        "state": {"directory": str(folder / "state")},
        "log": {"level": "warning"},
    }


def write_session(path: Path, session_token: int, user_tokens: tuple[int, ...]) -> None:
    """A session file of one session."""
    users = [{"authorization_token": token} for token in user_tokens]
    session = {"session_id": "bench", "authorization_token": session_token, "session_users": users}
    path.write_text(json.dumps({"sessions": [session]}), encoding="utf-8")


def _player_tokens() -> tuple[int, ...]:
    return tuple(range(_FIRST_PLAYER, _FIRST_PLAYER + PLAYERS))


async def _play_and_flood(relay: dict[str, Any], relay_pid: int, metrics_url: str, seed: int) -> Outcome:
    target = Target(relay["server_port"], relay["client_port"], _SESSION, _HOST, _player_tokens())
    addresses = (("127.0.0.1", target.server_port), ("127.0.0.1", target.client_port))
    game = Game(GameKeys(*addresses, target.session, target.host, tuple(target.players)))
    playing = asyncio.create_task(game.play())
    await asyncio.to_thread(wait_for, lambda: all(report.received > 30 for report in game.reports()), "everybody plays")
    before_seconds = _cpu_seconds(relay_pid)
    memory_bytes = [resident_bytes(relay_pid)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        flooding = pool.apply_async(flood, (target, JUNK_PER_SECOND, FLOOD_SECONDS, seed))
        for _ in range(_QUARTERS):
            await asyncio.sleep(FLOOD_SECONDS / _QUARTERS)
            memory_bytes.append(resident_bytes(relay_pid))
        junk_sent = await asyncio.to_thread(flooding.get)
    cpu_seconds = _cpu_seconds(relay_pid) - before_seconds
    game.stop()
    await playing
    reports = game.reports()
    return Outcome(
        junk_sent,
        cpu_seconds / FLOOD_SECONDS,
        memory_bytes,
        sum(report.sent + report.received + report.lost_to_player for report in reports),
        sum(report.lost_to_host + report.lost_to_player for report in reports),
        max(report.longest_pause_seconds for report in reports),
        await asyncio.to_thread(_verdicts, metrics_url),
    )


def _verdicts(metrics_url: str) -> dict[str, int]:
    text = httpx.get(metrics_url, trust_env=False, timeout=60.0).raise_for_status().text
    found: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "relayd_datagrams_total" and sample.value:
                verdict = sample.labels["verdict"]
                found[verdict] = found.get(verdict, 0) + int(sample.value)
    return found


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, its own and the kernel's on its behalf."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
