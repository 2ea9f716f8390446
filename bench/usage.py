"""``python -m bench usage``: whether usage records add up to what was forwarded, when the relay is killed at random.

A game of 8 players goes on while relayd gets SIGKILL 50 times, at random moments of its start and of its work; its
sockets are kept, as by systemd, and the control plane takes its records. In the end the session is deleted, and the sum
that the control plane has is compared with what the peers of the game heard. Everything runs in a network namespace of
the benchmark's own. Needs root.
"""

import asyncio
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvloop

from bench.echo_game import EchoGame, Keys
from bench.machine import describe
from bench.namespace import enter
from bench.processes import ControlPlane, Program, answers, kept_sockets, relay_sections, wait_for
from relayd.core.usage import Counts

PLAYERS = 8
PER_SECOND = 60
KILLS = 50
LONGEST_LIFE_SECONDS = 2.0


class Way(NamedTuple):
    """How datagrams are forwarded."""

    name: str
    forwarder: str
    fast_path: dict[str, Any]


KERNEL = Way("kernel fast path", "auto", {"mode": "require", "interfaces": ["lo"]})
THREAD = Way("thread in C", "native", {"mode": "off"})
PYTHON = Way("Python", "python", {"mode": "off"})
WAYS = (KERNEL, THREAD, PYTHON)


class Outcome(NamedTuple):
    """What came of one run."""

    heard: Counts
    recorded: Counts
    sent: Counts
    metrics: Counts
    """What the last relay says that it and those before it forwarded."""


def main() -> None:
    """Runs and prints."""
    enter("usage")
    print(describe())
    seed = random.randrange(1 << 32)
    print(f"{PLAYERS} players, {PER_SECOND} datagrams a second each, all answered; {KILLS} SIGKILLs; seed {seed}")
    columns = f"{'sent':>9}{'heard':>9}{'recorded':>9}{'off by':>8}{'bytes off':>11}{'metrics':>9}"
    print(f"{'way':18}{'direction':11}{columns}")
    for way in WAYS:
        with tempfile.TemporaryDirectory() as name:
            outcome = uvloop.run(run(Path(name), way, KILLS, random.Random(seed)))
        off = outcome.recorded.minus(outcome.heard)
        for direction, at in (("to host", 0), ("to player", 2)):
            counts = (outcome.sent[at], outcome.heard[at], outcome.recorded[at])
            print(f"{way.name:18}{direction:11}", *(f"{count:8}" for count in counts), end="")
            print(f"{off[at]:+8}{off[at + 1]:+11}{outcome.metrics[at]:9}", flush=True)


async def run(folder: Path, way: Way, kills: int, chance: random.Random) -> Outcome:
    """One game over so many kills."""
    with ControlPlane(folder) as control_plane:
        sections = relay_sections(folder, control_plane.url)
        sections["relay"] |= {"id": f"bench-{os.getpid()}", "forwarder": way.forwarder}
        sections["fast_path"] = way.fast_path
        sections["usage"] = {"interval": 0.3}
        admin = f"http://{sections['admin']['bind']}"
        server, client = (("127.0.0.1", sections["relay"][f"{port}_port"]) for port in ("server", "client"))

        def until_ready() -> None:
            wait_for(lambda: answers(f"{admin}/readyz"), "the relay is ready")

        with (
            kept_sockets(server, client) as kept,
            Program(folder, "relay", sections, "run", kept=kept) as relay,
        ):
            await asyncio.to_thread(until_ready)
            session_id, keys = await asyncio.to_thread(new_session, control_plane.client, PLAYERS)
            game = EchoGame(keys, PER_SECOND)
            playing = asyncio.create_task(game.play(server, client))
            await asyncio.to_thread(wait_for, lambda: game.heard.to_player_datagrams > PLAYERS, "everybody plays")
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
                relay.signal(signal.SIGKILL)
                await asyncio.to_thread(relay.stop)
                relay.start()
            await asyncio.to_thread(until_ready)
            game.stop()
            await playing
            metrics = await asyncio.to_thread(shown_counts, folder, session_id)
            recorded = await asyncio.to_thread(_recorded, control_plane.client, session_id)
            return Outcome(game.heard, recorded, game.sent, metrics)


def new_session(api: httpx.Client, players: int) -> tuple[str, Keys]:
    """A session that is ready: its id, and its tokens."""
    made = api.post("/v1/relays/sessions", json={"users": ["127.0.0.1"] * (1 + players)}).raise_for_status().json()
    url = f"/v1/relays/sessions/{made['session_id']}"
    wait_for(lambda: api.get(url).json()["ready"], "the session is ready")
    session = api.get(url).json()
    host, *others = (user["authorization_token"] for user in session["session_users"])
    return made["session_id"], Keys(session["authorization_token"], host, tuple(others))


def _recorded(api: httpx.Client, session_id: str) -> Counts:
    api.delete(f"/v1/relays/sessions/{session_id}").raise_for_status()

    def ended() -> bool:
        return bool(_usage(api, session_id)["ended"])

    wait_for(ended, "the session's last record")
    return _counts(_usage(api, session_id))


def _usage(api: httpx.Client, session_id: str) -> dict[str, dict[str, int]]:
    answer = api.get("/v1/relays/usage", params={"session_id": session_id}).raise_for_status().json()
    found: dict[str, dict[str, int]] = answer["usage"][0]
    return found


def shown_counts(folder: Path, session_id: str) -> Counts:
    """What the relay with its state in this folder counted of a session."""
    transport = httpx.HTTPTransport(uds=str(folder / "state" / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost") as admin:
        return _counts(admin.get(f"/v1/sessions/{session_id}").raise_for_status().json())


def _counts(shown: dict[str, dict[str, int]]) -> Counts:
    units = ("datagrams", "bytes")
    return Counts(*(shown[direction][unit] for direction in ("to_host", "to_player") for unit in units))
