"""What a relay has to do, once for all of its engines: who sends what, what becomes of it, who hears what of it."""

from typing import NamedTuple

from relayd.core.wire import Port

S, C = Port.SERVER, Port.CLIENT

REBIND_AFTER = 0.3
HOST_TIMEOUT = 0.8
LIMITS = {
    "rebind_after": REBIND_AFTER,
    "host_timeout": HOST_TIMEOUT,
    "refusals_per_source_per_second": 1000,
}
PLAYERS = 3
OPENS = b"\x01" + bytes(4) + b"opens"
GOES_ON = b"\x01" + b"cook" + b"goes on"


class Peer(NamedTuple):
    """Someone with a token at an address; the same user may be at several."""

    user: int
    """0 is meant to be the host. Numbers past the last are strangers."""
    address: int = 0
    family: int = 4


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
    """Whether it comes under an id that was not seen before; else under the newest."""


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
    """Nothing happens for so many seconds."""

    seconds: float


class Revoke(NamedTuple):
    """A user is taken out of the session."""

    user: int


Step = Send | Wait | Revoke

HOST, OTHER_HOST = Peer(0), Peer(0, 1)
ONE, ONE_MOVED, TWO = Peer(1, 2), Peer(1, 3), Peer(2, 4)
STRANGER = Peer(PLAYERS + 5, 5)
VALID, INVALID, ERROR = Told(2), Told(3), Told(5)


def joins(player: Peer, host: Peer) -> list[Step]:
    """A player comes, and plays until nothing about it is new any more."""
    return [
        Send(player, C, ToHost(OPENS), "forwarded", AtHost(host, player.user, OPENS, new_connection=True)),
        Send(host, S, ToPlayer(player.user, b"welcome"), "forwarded", AtPlayer(player, b"welcome")),
        Send(player, C, Ping(), "answered", VALID),
        Send(player, C, ToHost(GOES_ON), "forwarded", AtHost(host, player.user, GOES_ON)),
        Send(host, S, ToPlayer(player.user, GOES_ON), "forwarded", AtPlayer(player, GOES_ON)),
    ]


def hosts(host: Peer) -> list[Step]:
    """A host comes and is heard twice."""
    return [Send(host, S, Ping(), "answered", VALID), Send(host, S, Ping(), "answered", VALID)]


def malformed(peer: Peer) -> list[Step]:
    """All there is that no engine accepts, on both ports."""
    steps: list[Step] = [
        step
        for port in (S, C)
        for step in (
            Send(peer, port, Bytes(b""), "too_short"),
            Send(peer, port, Bytes(b"12345678"), "too_short"),
            Send(peer, port, Raw(b"\x00"), "unknown_type"),
            Send(peer, port, Raw(b"\x03abc"), "unknown_type"),
            Send(peer, port, Raw(b"\x02" + bytes(1192)), "too_long"),
            Send(peer, port, Raw(b"\x02"), "no_payload" if port is C else "too_short"),
        )
    ]
    return [
        *steps,
        Send(peer, S, Raw(b"\x02abc"), "too_short"),
        Send(peer, S, Raw(b"\x02\x01\x00\x00\x00"), "no_payload"),
    ]


def size(bytes_: int) -> bytes:
    return bytes(index & 0xFF for index in range(bytes_))


def cross_family(host: Peer, player: Peer) -> list[Step]:
    return [*hosts(host), *joins(player, host), Send(host, S, Ping(), "answered", VALID)]


SCENARIOS: dict[str, list[Step]] = {
    "a game": [*hosts(HOST), *joins(ONE, HOST), *joins(TWO, HOST), *joins(Peer(3, 6), HOST)],
    "malformed from strangers": malformed(STRANGER),
    "malformed from the bound": [*hosts(HOST), *joins(ONE, HOST), *malformed(ONE), *malformed(HOST)],
    "ping with something behind it": [
        *hosts(HOST),
        Send(HOST, S, Raw(b"\x01and more"), "answered", VALID),
    ],
    "unknown tokens": [
        *hosts(HOST),
        Send(STRANGER, C, Ping(), "unknown_pair", INVALID),
        Send(STRANGER, S, ToPlayer(0, b"x"), "unknown_pair", INVALID),
        Send(STRANGER, C, ToHost(OPENS), "unknown_pair", INVALID),
    ],
    "no host": [
        Send(ONE, C, ToHost(OPENS), "no_host"),
        Send(ONE, C, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(OPENS), "no_host"),
        *hosts(HOST),
        Send(ONE, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS, new_connection=True)),
    ],
    "unknown connection": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(HOST, S, Raw(b"\x02\xff\xff\xff\x7fdata"), "unknown_connection"),
        Send(HOST, S, Raw(b"\x02\x00\x00\x00\x00data"), "unknown_connection"),
        Send(HOST, S, Raw(b"\x02\xff\xff\xff\xffdata"), "unknown_connection"),
    ],
    "a player moves within a game": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "address_conflict"),
        Send(ONE_MOVED, C, Ping(), "address_conflict"),
        Wait(REBIND_AFTER),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"there"), "forwarded", AtPlayer(ONE_MOVED, b"there")),
        Send(ONE, C, ToHost(GOES_ON), "address_conflict"),
    ],
    "a player restarts": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Wait(REBIND_AFTER),
        Send(ONE_MOVED, C, Ping(), "answered", VALID),
        Send(HOST, S, ToPlayer(1, b"to the moved one"), "forwarded", AtPlayer(ONE_MOVED, b"to the moved one")),
        Send(ONE_MOVED, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS, new_connection=True)),
        Send(HOST, S, ToPlayer(1, b"old", connection=-2), "unknown_connection"),
        Send(HOST, S, ToPlayer(1, b"new"), "forwarded", AtPlayer(ONE_MOVED, b"new")),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"old", connection=-2), "unknown_connection"),
    ],
    "a host moves": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(OTHER_HOST, S, ToPlayer(1, b"x"), "address_conflict"),
        Wait(REBIND_AFTER),
        Send(OTHER_HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(ONE, b"x")),
        Send(OTHER_HOST, S, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(OTHER_HOST, 1, GOES_ON)),
    ],
    "another host": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(TWO, S, Ping(), "host_conflict", ERROR),
        Wait(HOST_TIMEOUT),
        Send(TWO, S, Ping(), "answered", VALID),
        Send(TWO, S, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(TWO, 1, GOES_ON)),
        Send(TWO, S, ToPlayer(1, b"mine now"), "forwarded", AtPlayer(ONE, b"mine now")),
        Send(HOST, S, ToPlayer(1, b"not any more"), "host_conflict", ERROR),
    ],
    "a player is revoked": [
        *hosts(HOST),
        *joins(ONE, HOST),
        *joins(TWO, HOST),
        Revoke(1),
        Send(ONE, C, ToHost(GOES_ON), "unknown_pair", INVALID),
        Send(HOST, S, ToPlayer(1, b"gone"), "unknown_connection"),
        Send(TWO, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 2, GOES_ON)),
    ],
    "the host is revoked": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Revoke(0),
        Send(HOST, S, ToPlayer(1, b"x"), "unknown_pair", INVALID),
        Send(ONE, C, ToHost(GOES_ON), "no_host"),
    ],
    "one user on both ports": [
        *hosts(HOST),
        *joins(Peer(0, 7), HOST),
        *joins(ONE, HOST),
    ],
    "the host at the client port": [
        *hosts(HOST),
        Send(HOST, C, ToHost(OPENS), "forwarded", AtHost(HOST, 0, OPENS, new_connection=True)),
        Send(HOST, C, ToHost(OPENS), "forwarded", AtHost(HOST, 0, OPENS)),
    ],
    "every size": [
        *hosts(HOST),
        *joins(ONE, HOST),
        *[
            step
            for length in (1, 2, 3, 7, 8, 9, 100, 1186, 1187)
            for step in (
                Send(ONE, C, ToHost(size(length)), "forwarded", AtHost(HOST, 1, size(length))),
                Send(HOST, S, ToPlayer(1, size(length)), "forwarded", AtPlayer(ONE, size(length))),
            )
        ],
        Send(ONE, C, ToHost(size(1191)), "forwarded", AtHost(HOST, 1, size(1191))),
        Send(ONE, C, ToHost(size(1192)), "too_long"),
        Send(HOST, S, ToPlayer(1, size(1188)), "too_long"),
    ],
    "IPv6": [*hosts(Peer(0, 0, 6)), *joins(Peer(1, 2, 6), Peer(0, 0, 6)), *malformed(Peer(1, 2, 6))],
    "IPv6 host, IPv4 player": cross_family(Peer(0, 0, 6), ONE),
    "IPv4 host, IPv6 player": cross_family(HOST, Peer(1, 2, 6)),
    "a player changes family": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Wait(REBIND_AFTER),
        Send(Peer(1, 2, 6), C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(Peer(1, 2, 6), C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(Peer(1, 2, 6), b"x")),
    ],
}
