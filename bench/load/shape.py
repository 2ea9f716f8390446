"""Who takes part in a load, where, and how they get into a relay."""

from typing import NamedTuple, Protocol

from bench.load.run import Ends, Ways


class Shape(NamedTuple):
    """Who takes part. Player and host sockets are shared where there are more players or sessions than sockets."""

    sessions: int
    players: int
    """In each session."""
    payload_bytes: tuple[int, ...]
    """Lengths that take turns."""
    client_sockets: int
    host_sockets: int
    block: int = 4
    """Datagrams that a socket sends in a row."""

    @property
    def flows(self) -> int:
        """One for each player, in each direction. Player p of session s has flow p * sessions + s."""
        return self.sessions * self.players


class Place(NamedTuple):
    """Where the sockets are opened: network namespaces (None: where the benchmark is) and addresses."""

    clients_network: str | None = None
    clients_address: str = "127.0.0.1"
    hosts_network: str | None = None
    hosts_address: str = "127.0.0.1"


class Door(Protocol):
    """How peers get into a relay: brings all of them in, and says how to send through it."""

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Called in the generator's process."""
        ...
