"""``python -m bench table``: 10,000 sessions of 10 users from a file: time, memory, and how expiry treats the loop.

Everything is the relay's own: the file source reads the file, the table's owner applies it, on uvloop, while a probe
watches for how long the loop is ever held.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from bench.loop_probe import LoopProbe
from bench.machine import describe, resident_bytes
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.wire import Port, encode_ping
from relayd.event_loop.garbage import Growth, settle
from relayd.log import configure
from relayd.session_source.file import FileSource
from relayd.session_source.owner import TableOwner

SESSIONS = 10_000
USERS_PER_SESSION = 10
RUNS = 3
_TIMEOUT_SECONDS = 2.0


def main() -> None:
    """Runs in processes of its own and prints medians."""
    configure("warning")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.json"
        _write_sessions(path)
        print(describe())
        print(
            f"{SESSIONS} sessions of {USERS_PER_SESSION} users, file of {path.stat().st_size / 1e6:.1f} MB, {RUNS} runs"
        )
        results = [_in_own_process(path) for _ in range(RUNS)]
    rows = (
        ("load, from file to table", "s", 1.0),
        ("longest hold of the loop while loading", "ms", 1e3),
        ("the same in processor time", "ms", 1e3),
        ("resident memory per user", "bytes", 1.0),
        ("resident memory per user, all bound", "bytes", 1.0),
        ("longest hold of the loop while expiring", "ms", 1e3),
        ("the same in processor time", "ms", 1e3),
    )
    for (name, unit, scale), values in zip(rows, zip(*results, strict=True), strict=True):
        spread = ", ".join(f"{value * scale:.4g}" for value in sorted(values))
        print(f"{name:42} {statistics.median(values) * scale:8.4g} {unit:6} (runs: {spread})")


def _write_sessions(path: Path) -> None:
    sessions = [
        {
            "session_id": f"{number:012x}-S",
            "authorization_token": 0x1000_0000 + number,
            "status": "Ready",
            "ready": True,
            "linked": True,
            "session_users": [
                {
                    "ip_address": f"198.51.{number % 100}.{user}",
                    "latitude": None,
                    "longitude": None,
                    "authorization_token": 0x4000_0000 + number * USERS_PER_SESSION + user,
                }
                for user in range(USERS_PER_SESSION)
            ],
        }
        for number in range(SESSIONS)
    ]
    path.write_text(json.dumps({"sessions": sessions}), encoding="utf-8")


def _in_own_process(path: Path) -> tuple[float, ...]:
    """A fresh process for each run, so that memory starts from the bare interpreter each time."""
    import multiprocessing  # noqa: PLC0415 - spawned children import this module too, and need none of it

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (path,))


def _measure(path: Path) -> tuple[float, ...]:
    configure("warning")
    return uvloop.run(_measure_on_loop(path))


async def _measure_on_loop(path: Path) -> tuple[float, ...]:
    limits = Limits(user_timeout=_TIMEOUT_SECONDS, session_idle_timeout=_TIMEOUT_SECONDS)
    identifiers = iter(range(1, 2**31))
    table = Table(limits, lambda: next(identifiers))
    table.followers.subscribe(Phase.READERS, Growth())
    owner = TableOwner(table)
    source = FileSource(path, owner, poll_interval=3600.0, shrink_hold=0.0)
    users = SESSIONS * USERS_PER_SESSION
    probe = LoopProbe()

    settle()
    bare_bytes = resident_bytes()
    started = time.perf_counter()
    following = asyncio.create_task(source.run())
    await probe.watch_until(lambda: table.loaded)
    load_seconds = time.perf_counter() - started
    load_hold = probe.longest()
    loaded_bytes = resident_bytes() - bare_bytes

    _bind_all(table)
    bound_bytes = resident_bytes() - bare_bytes
    probe.longest()
    expiring = asyncio.create_task(owner.expire_forever())
    await probe.watch_until(lambda: not table.sessions)
    expire_hold = probe.longest()
    for task in (following, expiring):
        task.cancel()
    return load_seconds, *load_hold, loaded_bytes / users, bound_bytes / users, *expire_hold


def _bind_all(table: Table) -> None:
    engine = Engine(table)
    endpoint = Endpoint(Port.CLIENT, 0)
    now = asyncio.get_running_loop().time()
    for session in table.sessions.values():
        for user in session.users.values():
            address = (f"203.0.113.{user.token % 250}", user.token % 60_000)
            engine.handle(endpoint, encode_ping(user.token, session.token), address, now)
