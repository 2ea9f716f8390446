"""Ports for programs that a benchmark or a test starts."""

import fcntl
import os
import socket
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 1024, 65535
"""Those that take no privilege."""
_ENOUGH = 4096
_REMEMBERED = 128
"""How many of the last ones a process keeps for itself: far more than are between their choice and their use."""


def free_port(kind: socket.SocketKind) -> int:
    """One that is free now."""
    return free_ports(1, kind)[0]


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Several that are free now, on IPv4 and IPv6 alike.

    They are not among the ephemeral ones, which the kernel gives to whoever asks for any port (ip(7),
    ip_local_port_range): a program that connects somewhere could get one before the program it is for has started.
    Nor does any other process of this user get the same ones from here in that time: of two programs on one port the
    second ends, and whoever waits for it would take the first for it.
    """
    choice = _choice(*map(int, _EPHEMERAL.read_text(encoding="ascii").split()))
    chance = SystemRandom()
    with ExitStack() as taken:
        ports: list[int] = []
        while len(ports) < count:
            port = chance.choice(choice)
            with ExitStack() as tried:
                v4 = tried.enter_context(socket.socket(socket.AF_INET, kind))
                v6 = tried.enter_context(socket.socket(socket.AF_INET6, kind))
                v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    v4.bind(("0.0.0.0", port))
                    v6.bind(("::", port))
                except OSError:
                    continue
                if not _claims.claim(port):
                    continue
                taken.push(tried.pop_all())
            ports.append(port)
        return ports


class _Claims:
    """Ports that processes of one user keep apart: a lock on one byte of a file for each (fcntl(2), advisory record
    locks: they end with their process, and a process that forks keeps them)."""

    def __init__(self) -> None:
        self._process = 0
        self._file = -1
        self._claimed: deque[int] = deque()

    def claim(self, port: int) -> bool:
        """Whether nobody has it, this process included. The one it claimed longest ago is given back."""
        self._open()
        if port in self._claimed:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._claimed.append(port)
        if len(self._claimed) > _REMEMBERED:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._claimed.popleft())
        return True

    def _open(self) -> None:
        # A child has none of its parent's locks.
        if self._process != os.getpid():
            path = Path(tempfile.gettempdir()) / f"relayd-ports-{os.getuid()}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._process = os.getpid()
            self._claimed.clear()


_claims = _Claims()


def _choice(first: int, last: int) -> Sequence[int]:
    """Ports below the ephemeral ones, or above, or all where those leave too few: "1024 65535" is a common setting."""
    for ports in (range(max(first // 2, _FIRST), first), range(last + 1, _LAST + 1)):
        if len(ports) >= _ENOUGH:
            return ports
    return range(_FIRST, _LAST + 1)
