"""The words that scenarios are told in: who sends what, what becomes of it, who hears what of it."""

from typing import NamedTuple

from relayd.core.wire import Port

S, C = Port.SERVER, Port.CLIENT
PLAYERS = 3
OWN = "the relay's own"
"""An address, for a datagram that seems to come from the relay itself."""


class Peer(NamedTuple):
    """Someone with a token at an address; the same user may be at several."""

    user: int
    """0 is meant to be the host. Numbers past the last are strangers."""
    address: int | str = 0
    """A number for one of the peers' addresses; else an IP address as text, or `OWN`."""
    family: int = 4
    udp_port: int | Port | None = None
    """None for the one that all peers have; a `Port` for that of the relay."""


class Ping(NamedTuple):
    """A PING."""


class ToHost(NamedTuple):
    """A player's DATA."""

    payload: bytes


class ToPlayer(NamedTuple):
    """A host's DATA for the player's connection: its newest, or the one before."""

    user: int
    payload: bytes
    connection: int = -1


class Raw(NamedTuple):
    """Both tokens, and then whatever."""

    rest: bytes


class Bytes(NamedTuple):
    """No tokens."""

    content: bytes


Datagram = Ping | ToHost | ToPlayer | Raw | Bytes


class Told(NamedTuple):
    """The sender is told a state."""

    state: int


class AtHost(NamedTuple):
    """A peer hears a player's payload as its host."""

    peer: Peer
    user: int
    payload: bytes
    new_connection: bool = False
    """Whether it comes under an id that was not seen before."""
    connection: int = -1
    """Else under which of those that were seen: the newest, or the one before."""


class AtPlayer(NamedTuple):
    """A peer hears a payload as a player."""

    peer: Peer
    payload: bytes


class Send(NamedTuple):
    """A datagram, and all that follows from it."""

    peer: Peer
    port: Port
    datagram: Datagram
    verdict: str
    out: Told | AtHost | AtPlayer | None = None


class Wait(NamedTuple):
    """Nothing happens for so many seconds. Less than 0: another processor's clock is that much behind."""

    seconds: float


class Revoke(NamedTuple):
    """A user is taken out of the session."""

    user: int


class End(NamedTuple):
    """The session is taken out of the table."""


class Begin(NamedTuple):
    """It is put into the table again, with all of its users."""


class Drain(NamedTuple):
    """The relay takes no new sessions from now on; or takes them again."""

    on: bool


class Away(NamedTuple):
    """No relayd has the ports open any more; or one has again."""

    on: bool


class Fleet(NamedTuple):
    """The relay is told that other relays have the sockets of these peers, and that no others do."""

    peers: tuple[Peer, ...]


Step = Send | Wait | Revoke | End | Begin | Drain | Away | Fleet
