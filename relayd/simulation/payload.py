"""What the simulated game sends: shaped like KCP's (channel, cookie, the rest), and checkable to the last byte."""

import struct
import zlib
from typing import NamedTuple

_LAYOUT = struct.Struct("<BIIHIQQI")
"""channel · cookie · game · player · sequence number · sent at · echo · checksum, then filler"""

_CHECKSUM = struct.Struct("<I")
_CHANNEL = 1

MIN_PAYLOAD_BYTES = _LAYOUT.size

HELLO_SEQUENCE = 0
"""Sequence number of the datagrams that open a connection; the game's own begin with 1."""


class Payload(NamedTuple):
    """One message of the game."""

    cookie: int
    """0 in a player's first datagram of a connection, afterwards what the host chose."""
    game: int
    """Which game it belongs to, so that one that strays into another is noticed."""
    player: int
    """Number of the player it is from or for."""
    sequence: int
    """Counts from 1 per player and direction."""
    sent_ns: int
    """When it was sent, on its sender's clock."""
    echo_ns: int
    """From the host: `sent_ns` of the player's newest message, moved on by the time the host held it; else 0."""

    def encode(self, size_bytes: int) -> bytes:
        """The payload's bytes, with a checksum over all of them, filled up to ``size_bytes``."""
        filler = bytes((self.sequence + index) & 0xFF for index in range(size_bytes - _LAYOUT.size))
        head = _LAYOUT.pack(_CHANNEL, *self, 0)[: -_CHECKSUM.size]
        return head + _CHECKSUM.pack(zlib.crc32(filler, zlib.crc32(head))) + filler

    @classmethod
    def decode(cls, data: bytes) -> "Payload | None":
        """The message, or None when a single byte of it is not as it was sent."""
        if len(data) < _LAYOUT.size:
            return None
        _, *fields, checksum = _LAYOUT.unpack_from(data)
        head_bytes = _LAYOUT.size - _CHECKSUM.size
        if zlib.crc32(data[_LAYOUT.size :], zlib.crc32(data[:head_bytes])) != checksum:
            return None
        return cls(*fields)
