"""``python -m bench cost``: processor time of the whole machine per forwarded datagram, without and with the fast path.

One player sends DATA to its host through the relay, all on the loopback interface of a network namespace that the
benchmark makes for itself. What the load alone costs is measured by sending the same straight to the host, and is taken
off. The three take turns, at a rate that all of them manage without loss; then the fast path is given the load
generator's full rate. Nothing else should run on the machine meanwhile. Needs root.
"""

import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench.flood import IN_NAMESPACE, configuration, write_session
from bench.machine import describe
from bench.processes import Program, answers, wait_for
from bench.sender import BatchSender
from relayd.core.wire import encode_ping, encode_player_data

PER_SECOND = 20_000
SECONDS = 4.0
ROUNDS = 5
PAYLOAD_BYTES = 100
_SESSION, _HOST, _PLAYER = 0xCAFE, 1000, 2000
_BATCH = 20
_OPENS = bytes(PAYLOAD_BYTES)
_GOES_ON = b"\x01" * PAYLOAD_BYTES


class Load(NamedTuple):
    """What a stretch of load did."""

    sent: int
    arrived: int
    cpu_seconds: float
    seconds: float


def main() -> None:
    """Runs and prints."""
    if os.geteuid() != 0:
        sys.exit("bench cost: makes a network namespace of its own and needs root")
    if IN_NAMESPACE not in os.environ:
        command = ["unshare", "--net", sys.executable, "-m", "bench", "cost"]
        sys.exit(subprocess.call(command, env={**os.environ, IN_NAMESPACE: "1"}))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(describe())
    print(
        f"{PER_SECOND:,} datagrams a second of {PAYLOAD_BYTES} bytes payload, {ROUNDS} rounds of {SECONDS:.0f} s each"
    )
    with tempfile.TemporaryDirectory() as name:
        costs: dict[str, list[float]] = {"direct": [], "off": [], "require": []}
        lost = dict.fromkeys(costs, 0)
        for number in range(ROUNDS + 1):
            for mode, values in costs.items():
                load = _measure(Path(name), mode, PER_SECOND)
                lost[mode] += load.sent - load.arrived
                if number:
                    values.append(load.cpu_seconds / load.sent * 1e6)
        full = _measure(Path(name), "require", None)
    direct = statistics.median(costs["direct"])
    print(f"{'':34}{'median':>10}{'less the load':>15}{'lost':>8}   rounds")
    for mode, label in (("direct", "the load alone"), ("off", "relayd on sockets"), ("require", "relayd, fast path")):
        median = statistics.median(costs[mode])
        rounds = ", ".join(f"{value:.2f}" for value in sorted(costs[mode]))
        print(f"{label:34}{median:7.2f} µs{median - direct:12.2f} µs{lost[mode]:8}   {rounds}")
    off, on = (statistics.median(costs[mode]) - direct for mode in ("off", "require"))
    print(f"the fast path costs 1/{off / on:.1f} of the sockets")
    rate, full_lost = full.sent / full.seconds, full.sent - full.arrived
    print(f"the generator's full rate through the fast path: {rate:,.0f}/s, {full_lost} of {full.sent} lost")


def _measure(folder: Path, mode: str, per_second: int | None) -> Load:
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        player = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        host.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        host.bind(("127.0.0.1", 0))
        if mode == "direct":
            player.connect(host.getsockname())
        else:
            stack.enter_context(_relay(folder, mode, host, player))
        return _send(player, stack.enter_context(_receiver(host)), per_second)


@contextlib.contextmanager
def _relay(folder: Path, mode: str, host: socket.socket, player: socket.socket) -> Iterator[None]:
    """A relay with both bound, and the player's connection begun, so that the fast path has them."""
    write_session(folder / "sessions.json", _SESSION, (_HOST, _PLAYER))
    sections = configuration(folder, mode)
    relay = sections["relay"]
    with Program(folder, "relay", sections, "run", "--detach-on-exit"):
        wait_for(lambda: answers(f"http://{sections['admin']['bind']}/readyz"), "the relay is ready")
        host.settimeout(5.0)
        player.connect(("127.0.0.1", int(relay["client_port"])))
        host.sendto(encode_ping(_HOST, _SESSION), ("127.0.0.1", int(relay["server_port"])))
        if host.recv(2048) != b"\x01\x02":
            raise SystemExit("the host was not let in")
        for payload in (_OPENS, _GOES_ON):
            player.send(encode_player_data(_PLAYER, _SESSION, payload))
            if not host.recv(2048).endswith(payload):
                raise SystemExit("the host did not hear its player")
        yield


@contextlib.contextmanager
def _receiver(host: socket.socket) -> Iterator[Connection]:
    """Counts what arrives at the host in a process of its own; gives the pipe on which it tells."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_receive, args=(host, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _receive(host: socket.socket, pipe: Connection) -> None:
    """Half a second of silence is the end."""
    host.settimeout(0.5)
    buffer = bytearray(2048)
    arrived = 0
    while True:
        try:
            host.recv_into(buffer)
            arrived += 1
        except TimeoutError:
            if arrived:
                pipe.send(arrived)
                return


def _send(player: socket.socket, received: Connection, per_second: int | None) -> Load:
    datagram = encode_player_data(_PLAYER, _SESSION, _GOES_ON)
    sender = BatchSender(player, _BATCH, len(datagram))
    sender.fill(datagram * _BATCH)
    before_cpu, began, sent = _busy_seconds(), time.perf_counter(), 0
    while (now := time.perf_counter() - began) < SECONDS:
        if per_second is not None and (ahead_seconds := sent / per_second - now) > 0:
            time.sleep(ahead_seconds)
        sent += sender.send()
    seconds = time.perf_counter() - began
    arrived: int = received.recv()
    return Load(sent, arrived, _busy_seconds() - before_cpu, seconds)


def _busy_seconds() -> float:
    """Processor time that the whole machine has spent on anything but idling (proc(5), /proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
