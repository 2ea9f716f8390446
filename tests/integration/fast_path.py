"""What tests of relays on the fast path share: a network of their own, and a place to pin things."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.relay_process import RelayProcess

_CLONE_NEWNET = 0x4000_0000


@contextmanager
def own_network() -> Iterator[None]:
    """Moves this thread, and all processes it starts, into a new network with a loopback interface."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(_CLONE_NEWNET) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(before, _CLONE_NEWNET) == 0
        os.close(before)


@contextmanager
def bpf_file_system(folder: Path) -> Iterator[Path]:
    """A BPF file system of the test's own: what is pinned in it ends with it."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def on_loopback(pins: Path) -> dict[str, dict[str, Any]]:
    """Settings of a relay that must be on the fast path, on the loopback interface."""
    return {"fast_path": {"mode": "require", "interfaces": ["lo"], "pin_directory": str(pins / "relayd")}}


def by_kernel(relay: RelayProcess, verdict: str) -> float:
    """How many datagrams the kernel decided so."""
    metrics = relay.metrics()
    return sum(metrics.get(("relayd_fast_path_datagrams_total", port, verdict), 0.0) for port in ("server", "client"))


def in_all(relay: RelayProcess, verdict: str) -> float:
    """How many were decided so, by whomever."""
    metrics = relay.metrics()
    return sum(metrics["relayd_datagrams_total", port, verdict] for port in ("server", "client"))
