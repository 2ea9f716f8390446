"""How peers get through a plain UDP proxy, which has a port for each host and a socket of its own for each player."""

from pathlib import Path
from typing import NamedTuple

from bench.load.run import Ends, Ways
from bench.load.shape import Shape
from bench.peers.direct import plain_ways

_PATIENCE_SECONDS = 10.0


class ProxyDoor(NamedTuple):
    """Players send first; the host sees the proxy's socket for each of them, and answers to that.

    Args:
        ports: where the proxy listens for host h.
    """

    ports: list[tuple[str, int]]

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Brings all in."""
        behind: list[tuple[str, int]] = []
        for number, client in enumerate(ends.clients):
            host = ends.hosts[number % len(ends.hosts)]
            client.settimeout(_PATIENCE_SECONDS)
            host.settimeout(_PATIENCE_SECONDS)
            client.sendto(b"hello", self.ports[number % len(ends.hosts)])
            behind.append(host.recvfrom(2048)[1])
            host.sendto(b"hello", behind[-1])
            client.recv(2048)
        return plain_ways(self.ports, behind, shape.flows)


def listens(port: int) -> bool:
    """Whether somebody has bound that UDP port of this network."""
    wanted = f":{port:04X}"
    lines = Path("/proc/self/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1].endswith(wanted) for line in lines)
