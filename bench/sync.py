"""``python -m bench sync``: a relay learns 100,000 sessions of 4 users from its control plane, and then one change.

The control plane is a process of its own. The relay runs on uvloop in another, beside a probe that takes every turn of
its loop, while a player PINGs a thousand times a second from here.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from bench.loop_probe import Hold, LoopProbe
from bench.machine import describe
from bench.processes import ControlPlane, relay_sections, wait_for
from relayd import log
from relayd.app import Relay
from relayd.control_plane.models import NewUser
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.store.contract import NewSession
from relayd.control_plane.store.sqlite import SqliteStore
from relayd.core.wire import STATE_DATAGRAM, State, encode_ping
from relayd.http.socket_path import path_to_listen_on
from relayd.settings import Settings

SESSIONS = 100_000
USERS_PER_SESSION = 4
CHANGES = 20
_AT_ONCE = 500


def main() -> None:
    """Runs and prints."""
    print(describe())
    print(f"{SESSIONS} sessions of {USERS_PER_SESSION} users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        uvloop.run(_fill(folder / "bench.sqlite3"))
        print(f"{'filling the database (not measured)':52}{time.perf_counter() - began:9.2f} s", flush=True)
        with (
            ControlPlane(folder) as control_plane,
            _relay(folder, control_plane.url) as (pipe, address),
            _pings(address, 1000),
        ):
            load_seconds, load_hold = pipe.recv()
            print(f"{'full load, from first heartbeat to table':52}{load_seconds:9.2f} s")
            _print_hold(load_hold)
            changes = sorted(_change(control_plane, address) for _ in range(CHANGES))
            pipe.send("how long was the loop held since?")
            print(f"{'one change, from 2xx to first Valid: median':52}{changes[CHANGES // 2] * 1e3:9.2f} ms")
            print(f"{'one change, from 2xx to first Valid: longest':52}{changes[-1] * 1e3:9.2f} ms")
            _print_hold(pipe.recv())


def _print_hold(hold: Hold) -> None:
    print(f"{'longest hold of the loop meanwhile':52}{hold.wall_seconds * 1e3:9.2f} ms")
    print(f"{'the same in processor time':52}{hold.cpu_seconds * 1e3:9.2f} ms", flush=True)


async def _fill(database: Path) -> None:
    store = SqliteStore(str(database))
    users = [NewUser(ip=f"198.51.100.{number}") for number in range(USERS_PER_SESSION)]
    now = time.time()
    beat = Heartbeat(ip="127.0.0.1", host="localhost", server_port=1, client_port=2, capacity=10**6, load=0)
    await store.heartbeat("bench", beat, now)
    for _ in range(SESSIONS // _AT_ONCE):
        await asyncio.gather(*(store.create(NewSession(users, "bench", None, None, now)) for _ in range(_AT_ONCE)))
    await store.close()


@contextlib.contextmanager
def _relay(folder: Path, url: str) -> Iterator[tuple[Connection, tuple[str, int]]]:
    """A relay in a process of its own; gives the pipe to its probe, and where players reach it."""
    settings = Settings.model_validate(relay_sections(folder, url) | {"limits": {"session_idle_timeout": 0.0}})
    source = settings.source.model_copy(update={"token_file": folder / "key"})
    settings = settings.model_copy(update={"source": source})
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_relay, args=(settings, theirs), daemon=True)
    process.start()
    try:
        yield ours, ("127.0.0.1", settings.relay.client_port)
    finally:
        process.terminate()
        process.join()


def _run_relay(settings: Settings, pipe: Connection) -> None:
    log.configure("warning")
    uvloop.run(_watch_relay(settings, pipe))


async def _watch_relay(settings: Settings, pipe: Connection) -> None:
    relay = Relay(settings, admin_path=path_to_listen_on(settings, {}))
    serving = asyncio.create_task(relay.serve())
    await relay.until_started(serving)
    probe = LoopProbe()
    began = time.perf_counter()
    await probe.watch_until(lambda: relay.table.loaded)
    pipe.send((time.perf_counter() - began, probe.longest()))
    await probe.watch_until(pipe.poll)
    pipe.send(probe.longest())
    await serving


@contextlib.contextmanager
def _pings(address: tuple[str, int], per_second: int) -> Iterator[None]:
    """PINGs that go on all the while, known or not."""
    over = threading.Event()

    def ping() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            while not over.wait(1 / per_second):
                with contextlib.suppress(ConnectionRefusedError):
                    sock.send(encode_ping(1, 1))

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _change(control_plane: ControlPlane, address: tuple[str, int]) -> float:
    """Seconds from a new session's answer until its player is let in."""
    client = control_plane.client
    created = client.post("/v1/relays/sessions", json={"users": ["127.0.0.1"]}).raise_for_status().json()
    began = time.perf_counter()
    path = f"/v1/relays/sessions/{created['session_id']}"
    wait_for(lambda: bool(client.get(path).json()["ready"]), "the session is ready", 0.001)
    session = client.get(path).json()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(5.0)
        sock.send(encode_ping(session["session_users"][0]["authorization_token"], session["authorization_token"]))
        if sock.recv(64) != STATE_DATAGRAM[State.VALID]:
            raise SystemExit("a player of a ready session was not let in")
    return time.perf_counter() - began
