"""Holds a relay still, so that what it does not read piles up: as much as a test wants, on whatever processor.

A relay that is merely flooded keeps up on one machine and not on another.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.peers import Address
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x4000_0000


@contextmanager
def all_of(relay: RelayProcess) -> Iterator[None]:
    """The whole process: nothing is read from its sockets."""
    os.kill(relay.process.pid, signal.SIGSTOP)
    try:
        eventually(lambda: _state(relay.process.pid) == "T", "it stands")
        yield
    finally:
        os.kill(relay.process.pid, signal.SIGCONT)


@contextmanager
def owner_of(relay: RelayProcess) -> Iterator[None]:
    """Only its main thread: the forwarding thread goes on, and nobody takes what it passes up. See ptrace(2)."""
    pid = relay.process.pid
    _ptrace(_PTRACE_SEIZE, pid)
    try:
        _ptrace(_PTRACE_INTERRUPT, pid)
        assert os.WIFSTOPPED(os.waitpid(pid, _WALL)[1])
        yield
    finally:
        _ptrace(_PTRACE_DETACH, pid)


def until_read(*addresses: Address) -> None:
    """Waits until the sockets at these IPv4 addresses of this network hold nothing any more (proc(5), net/udp)."""
    eventually(lambda: not any(map(_queued_bytes, addresses)), "all is read")


def _queued_bytes(address: Address) -> int:
    ip, port = address
    local = f"{int.from_bytes(bytes(map(int, ip.split('.'))), 'little'):08X}:{port:04X}"
    for line in Path("/proc/thread-self/net/udp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == local:
            return int(fields[4].partition(":")[2], 16)
    raise AssertionError(f"no socket at {ip}:{port}")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def _ptrace(request: int, pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace request {request:#x} of process {pid} failed")
