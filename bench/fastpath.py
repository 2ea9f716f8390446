"""``python -m bench fastpath``: nanoseconds that the kernel program takes for a datagram, by BPF_PROG_TEST_RUN.

No network is involved: one packet is shown to the program a million times. Since the program rewrites what it forwards,
a second program restores the packet first; what that takes is measured alone, and is taken off. Needs root and clang.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.machine import describe
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.kernel import libbpf
from tests.scenarios.rig import XDP_DROP, XDP_TX, Rig
from tests.support.kernel_program import why_not

REPEAT = 1_000_000
RUNS = 5
PAYLOAD = bytes(100)
_SESSION = 0xCAFE
_LIMITS: dict[str, object] = {
    "rebind_after": 3600.0,
    # Kept, and never reached by one peer who sends as fast as this.
    "user_datagrams_per_second": 10_000_000,
    "user_bytes_per_second": 10_000_000_000,
    "host_datagrams_per_second": 10_000_000,
    "host_bytes_per_second": 10_000_000_000,
}
_SOURCE = Path(__file__).with_name("fastpath.bpf.c")


class Way(NamedTuple):
    """One kind of datagram."""

    name: str
    family: str
    frame: bytes
    exit: int


def main() -> None:
    """Measures and prints a table."""
    if (reason := why_not()) is not None:
        sys.exit(f"bench fastpath: {reason}")
    content = _compile()
    print(describe())
    print(f"payload {len(PAYLOAD)} bytes, {RUNS} runs of {REPEAT:,}, one packet at a time, caches warm")
    print(f"{'way':18} {'IP':5} {'ns':>6}  runs")
    with Rig(content=content, name="restored", more_maps=("heads",)) as rig:
        ways = list(_ways(rig))
        idle = [statistics.median(_measure(rig, way.frame, XDP_DROP)) for way in ways]
    with Rig(content=content, name="measured", more_maps=("heads",), limits=_LIMITS) as rig:
        _bind_all(rig)
        for way, restoring in zip(_ways(rig), idle, strict=True):
            _all_are_heard(rig)
            runs = [value - restoring for value in _measure(rig, way.frame, way.exit)]
            print(
                f"{way.name:18} {way.family:5} {statistics.median(runs):6.0f}  "
                + ", ".join(f"{value:.0f}" for value in sorted(runs))
            )


def _compile() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "fastpath.bpf.o"
        machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
        flags = ["-O2", "-g", "-target", "bpfel", "-mcpu=v3", f"-I/usr/include/{machine}-linux-gnu"]
        subprocess.run(["clang", *flags, "-c", str(_SOURCE), "-o", str(out)], check=True)
        return out.read_bytes()


def _addresses() -> Iterator[tuple[str, str]]:
    yield "IPv4", "10.77.0."
    yield "IPv6", "fd77::"


def _bind_all(rig: Rig) -> None:
    """A host and a player of each family, heard twice, in a session of their own."""
    rig.authorize(*((family, _SESSION + number, (1, 2)) for number, (family, _) in enumerate(_addresses())))
    for frame in _pings(rig):
        for _ in range(3):
            _forget(rig)
            rig.handle(frame)


def _all_are_heard(rig: Rig) -> None:
    """Whoever is silent for seconds is sent little."""
    for frame in _pings(rig):
        _forget(rig)
        rig.network.run(libbpf.test_run, rig.program.fd, frame, 1)


def _pings(rig: Rig) -> Iterator[bytes]:
    for number, (_, prefix) in enumerate(_addresses()):
        for user, port in ((1, Port.SERVER), (2, Port.CLIENT)):
            yield rig.frame(f"{prefix}5{user}", 7000, port, encode_ping(user, _SESSION + number))


def _ways(rig: Rig) -> Iterator[Way]:
    for number, (family, prefix) in enumerate(_addresses()):
        session = _SESSION + number
        found = rig.table.by_token.get(session)
        connection = next(iter(found.players)) if found else 1
        to_host = encode_player_data(2, session, PAYLOAD)
        to_player = encode_host_data(1, session, connection, PAYLOAD)
        host, player, other = (f"{prefix}5{last}" for last in (1, 2, 9))
        yield Way("to host", family, rig.frame(player, 7000, Port.CLIENT, to_host), XDP_TX)
        yield Way("to player", family, rig.frame(host, 7000, Port.SERVER, to_player), XDP_TX)
        yield Way("PING", family, rig.frame(player, 7000, Port.CLIENT, encode_ping(2, session)), XDP_TX)
        yield Way("address conflict", family, rig.frame(other, 7000, Port.CLIENT, to_host), XDP_DROP)
        # The last: after so many guesses, the engine has to look at conflicts in that session too.
        unknown = encode_player_data(77, session, PAYLOAD)
        yield Way("unknown pair", family, rig.frame(other, 7000, Port.CLIENT, unknown), XDP_DROP)


def _forget(rig: Rig) -> None:
    """Lets the program take the next packet for the one to restore."""
    rig.program.map("heads").put(0, bytes(84))


def _measure(rig: Rig, frame: bytes, expected: int) -> list[float]:
    measured = []
    for _ in range(RUNS):
        _forget(rig)
        exit_, _, nanoseconds = rig.network.run(libbpf.test_run, rig.program.fd, frame, REPEAT)
        assert exit_ == expected, (exit_, expected)
        measured.append(float(nanoseconds))
    return measured
