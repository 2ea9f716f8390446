"""Ports for programs that a benchmark or a test starts."""

import socket
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 1024, 65535
"""Those that take no privilege."""
_ENOUGH = 4096


def free_port(kind: socket.SocketKind) -> int:
    """One that is free now."""
    return free_ports(1, kind)[0]


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Several that are free now, on IPv4 and IPv6 alike.

    They are not among the ephemeral ones, which the kernel gives to whoever asks for any port (ip(7),
    ip_local_port_range): a program that connects somewhere could get one before the program it is for has started.
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
                taken.push(tried.pop_all())
            ports.append(port)
        return ports


def _choice(first: int, last: int) -> range:
    """Ports below the ephemeral ones, or above, or all where those leave too few: "1024 65535" is a common setting."""
    for ports in (range(max(first // 2, _FIRST), first), range(last + 1, _LAST + 1)):
        if len(ports) >= _ENOUGH:
            return ports
    return range(_FIRST, _LAST + 1)
