"""``python -m bench scale``: 1,000 to 100,000 sessions, and what each costs in memory, time and processor.

relayd starts with no session and is then given all of them at once in its file; a PING of the last tells when they are
there. Then a host and a player of each join, and the load goes over all of them in turn.
"""

import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.cost import WHOLE
from bench.cpu import awake, cores
from bench.load.generator import Generator
from bench.load.run import Load
from bench.load.shape import Shape
from bench.machine import resident_bytes
from bench.measurement import Effort, Measurement
from bench.network import open_network
from bench.peers import relayd
from bench.peers.direct import DirectDoor
from bench.peers.sessions import HOST, SESSION, write_sessions
from bench.processes import wait_for
from bench.sizes import game_lengths
from bench.stage import check_available
from relayd.core.wire import STATE_DATAGRAM, State, encode_ping

SCENARIO = "scale"
_SESSIONS = (100, 1_000, 100_000)
_QUICK_SESSIONS = (100, 1_000)
_PER_SECOND = 40_000
_SCRAPES = 3
_FAST_PATH = {"relayd": False, "relayd (fast path)": True}
_VALID = STATE_DATAGRAM[State.VALID]


def subjects(_effort: Effort) -> list[str]:
    """relayd alone: the others keep no sessions."""
    return list(_FAST_PATH)


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    check_available(subject)
    found: list[Measurement] = []
    for sessions in _QUICK_SESSIONS if effort.quick else _SESSIONS:
        found += _measure(subject, sessions, effort)
    return found


def _measure(subject: str, sessions: int, effort: Effort) -> Iterator[Measurement]:
    core = cores()
    shape = Shape(sessions, 1, game_lengths(), client_sockets=25, host_sockets=5)
    point = f"{sessions:,} sessions"
    with (
        tempfile.TemporaryDirectory() as name,
        open_network("lo") as network,
        Generator(shape, core.generator, network.place) as generator,
    ):
        folder = Path(name)
        none = {"source": {"path": str(folder / "all.json"), "shrink_hold": 0.0, "poll_interval": 3600.0}}
        write_sessions(folder / "all.json", 0, 0)
        with relayd.running(generator, network, folder, core.relay, _FAST_PATH[subject], none) as (relay, measured):
            pid = relay.program.pid
            bare = resident_bytes(pid)
            # One session more, for the PING.
            write_sessions(folder / "all.json", sessions + 1, 1)
            began = time.perf_counter()
            relay.program.signal(signal.SIGHUP)
            _wait_until_let_in(relay.door.server, sessions)
            yield Measurement(SCENARIO, subject, "sync", "s", time.perf_counter() - began, "lower", point)
            way = generator.join(measured.door)
            if measured.settle is not None:
                measured.settle(generator, way)
            yield Measurement(SCENARIO, subject, "memory", "MB", (resident_bytes(pid) - bare) / 1e6, "lower", point)
            scrapes = [_seconds_of_scrape(relay) for _ in range(_SCRAPES)]
            yield Measurement(SCENARIO, subject, "scrape", "ms", statistics.median(scrapes) * 1e3, "lower", point)
            # What the fast path costs is too little to be found in anything but the generator's full rate.
            load = Load(effort.seconds, None if _FAST_PATH[subject] else _PER_SECOND)
            direct = generator.join(DirectDoor())
            with awake(core):
                before = generator.run(load, direct)
                through = generator.run(load, way, measured.pids)
                after = generator.run(load, direct)
            alone_us = (before.cpu.total_ns + after.cpu.total_ns) / (before.tally.sent + after.tally.sent) / 1e3
            cost_us = (through.cpu.total_ns / 1e3 - alone_us * through.tally.sent) / max(1, through.tally.delivered)
            yield Measurement(SCENARIO, subject, WHOLE, "µs", cost_us, "lower", point)
            yield Measurement(SCENARIO, subject, "lost", "%", through.tally.lost_share * 100, "lower", point)


def _wait_until_let_in(server: tuple[str, int], session: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(server)
        sock.settimeout(0.005)

        def let_in() -> bool:
            sock.send(encode_ping(HOST + session, SESSION + session))
            try:
                return sock.recv(64) == _VALID
            except TimeoutError:
                return False

        wait_for(let_in, "the last session is there", 0.002)


def _seconds_of_scrape(relay: relayd.Relayd) -> float:
    began = time.perf_counter()
    relay.scrape()
    return time.perf_counter() - began


def remarks(found: list[Measurement]) -> Iterator[str]:
    """How the cost grows."""
    values = {(one.subject, one.point): one.value for one in found if one.metric == WHOLE}
    for subject in _FAST_PATH:
        few, many = (values.get((subject, f"{count:,} sessions")) for count in (_SESSIONS[0], _SESSIONS[-1]))
        if few and many:
            yield f"{subject}: costs {many / few:.2f} times as much at {_SESSIONS[-1]:,} sessions as at {_SESSIONS[0]}"
