"""Who appears in scenarios, and what they do again and again."""

from tests.scenarios.steps import (
    PLAYERS,
    AtHost,
    AtPlayer,
    Bytes,
    C,
    Peer,
    Ping,
    Raw,
    S,
    Send,
    Step,
    ToHost,
    Told,
    ToPlayer,
)

OPENS = b"\x01" + bytes(4) + b"opens"
GOES_ON = b"\x01" + b"cook" + b"goes on"

HOST, OTHER_HOST = Peer(0), Peer(0, 1)
ONE, ONE_MOVED, TWO = Peer(1, 2), Peer(1, 3), Peer(2, 4)
THREE = Peer(3, 6)
STRANGER = Peer(PLAYERS + 5, 5)
AT_RELAY = -49
"""Number of the relay's own IP address."""
VALID, INVALID, SESSION_TIMEOUT, ERROR = Told(2), Told(3), Told(4), Told(5)


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


def sends(player: Peer, verdict: str = "forwarded", host: Peer = HOST, new: bool = False) -> Send:
    """A player's DATA in a game that goes on."""
    out = AtHost(host, player.user, GOES_ON, new_connection=new) if verdict == "forwarded" else None
    return Send(player, C, ToHost(GOES_ON), verdict, out)


def pings(player: Peer, verdict: str = "answered", out: Told | None = None) -> Send:
    """A player's PING."""
    return Send(player, C, Ping(), verdict, VALID if verdict == "answered" else out)


def guesses(source: Peer, times: int, out: Told | None = INVALID, first: int = 100) -> list[Step]:
    """User tokens that are none, all from one address."""
    return [pings(source._replace(user=first + number), "unknown_pair", out) for number in range(times)]
