"""Ports for programs that a benchmark or a test starts."""

import socket
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(kind: socket.SocketKind) -> int:
    """One that is free now."""
    return free_ports(1, kind)[0]


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> list[int]:
    """Several that are free now, on IPv4 and IPv6 alike.

    They are below those that the kernel gives to whoever asks for any port (ip(7), ip_local_port_range): else somebody
    who connects somewhere could have one while the program that is meant to is still, or again, starting.
    """
    above = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    chance = SystemRandom()
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port = chance.randrange(above // 2, above)
            v4 = stack.enter_context(socket.socket(socket.AF_INET, kind))
            v6 = stack.enter_context(socket.socket(socket.AF_INET6, kind))
            v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                v4.bind(("0.0.0.0", port))
                v6.bind(("::", port))
            except OSError:
                continue
            ports.append(port)
        return ports
