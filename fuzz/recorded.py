"""The recorded games of tests/fixtures, with the tokens that the targets know."""

from collections.abc import Iterator

from tests.integration.captures import GAMES, Recorded, load_capture

__all__ = ["GAMES", "SESSION", "USERS", "arrivals"]

SESSION = 0xCAFEBABE
USERS = (0x11223344, 1001, 0xEFCDAB89, 1002)


def arrivals(name: str) -> Iterator[Recorded]:
    """What the relay of a game received."""
    capture = load_capture(name)
    ours = dict(zip(capture.session.users, USERS, strict=False))
    for one in capture.datagrams:
        if one.arrived:
            pair = ours[int.from_bytes(one.datagram[:4], "little")], SESSION
            tokens = b"".join(token.to_bytes(4, "little") for token in pair)
            yield one._replace(datagram=tokens + one.datagram[8:])
