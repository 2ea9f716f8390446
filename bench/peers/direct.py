"""No relay: players and hosts talk to each other. What this takes is the load's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.load.content import Way, no_heads
from bench.load.generator import Generator
from bench.load.messages import pack_address
from bench.load.run import Ends, Ways
from bench.load.shape import Shape
from bench.network import Network
from bench.peers.subject import Running


class DirectDoor:
    """Everybody knows everybody's address."""

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Nothing to do."""
        return plain_ways(
            [sock.getsockname() for sock in ends.hosts], [sock.getsockname() for sock in ends.clients], shape.flows
        )


def plain_ways(to_host: list[tuple[str, int]], to_player: list[tuple[str, int]], flows: int) -> Ways:
    """Ways that add nothing to a payload; flow f goes to address f % len(addresses)."""
    none = no_heads(flows)
    return Ways(*(Way(none, 0, addresses_of(where, flows), none, 0) for where in (to_host, to_player)))


def addresses_of(where: list[tuple[str, int]], flows: int) -> NDArray[np.uint8]:
    """Packed, one row per flow; flow f has address f % len(where)."""
    packed = np.frombuffer(b"".join(map(pack_address, where)), np.uint8).reshape(len(where), -1)
    return packed[np.arange(flows) % len(where)]


@contextmanager
def start(_generator: Generator, _network: Network, _folder: Path, _core: int) -> Iterator[Running]:
    """Nothing to start."""
    yield Running(DirectDoor(), [])
