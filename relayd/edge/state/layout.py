"""The state file, byte by byte: little-endian, mapped into memory and written to in place.

    header        magic, version, size of a record, places in use, where the sockets are bound, its own checksum
    heartbeat     which boot it was, and when somebody last wrote
    counters      the engine's
    decisions     what the forwarding thread decided and the engine has not added to its own counters yet
    tombstones    sessions that ended, and when they are forgotten
    records       one for each binding, and one for each user that was ever bound (its account)

A record is a line of 64 bytes that says what it is, with a checksum, and one that the forwarding thread counts in, of
which nobody could keep a checksum. A process can end between any two writes: a record counts only with its checksum,
which is written last.

An account also says which span of usage it is counted under (relayd/core/usage.py); 16 zero bytes where nobody records
usage, as before there was any of that.
"""

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

from relayd.core.wire import Port

MAGIC = b"relayd\0\0"
VERSION = 1
"""Changes with every change of this layout and of what verdicts mean: a file of another version is set aside."""

HEADER = struct.Struct("<8sIIIQ")
HEADER_CHECKSUM_AT = HEADER.size
HEARTBEAT_AT = 128
HEARTBEAT = struct.Struct("<16sd")
COUNTERS_AT = 4096
DECISIONS_AT = 8192
TOMBSTONES_AT = 12288
TOMBSTONE = struct.Struct("<IId")
TOMBSTONES = 4096
RECORDS_AT = TOMBSTONES_AT + TOMBSTONES * TOMBSTONE.size
RECORD_BYTES = 128
COUNTS_AT = 64
"""Within a record; relayd/edge/native/flows.h has the same as `struct counts`."""
LAST_SEEN = struct.Struct("<d")
COUNTS = struct.Struct("<6Q")

_CHECKSUM = struct.Struct("<I")
_IDENTITY = struct.Struct("<BBHIIIIHHI16s")


class Kind(IntEnum):
    """What a record is of."""

    BINDING = 1
    ACCOUNT = 2
    """Counts of a user over all of its bindings but those that are still in their records."""
    FORMER = 3
    """The account of a user that is no longer in its session, or whose session ended: kept until that is recorded."""


_KINDS = {int(kind) for kind in Kind}
_PORTS = {int(port) for port in Port}


class Identity(NamedTuple):
    """What a record is of, and whose."""

    kind: Kind
    port: int
    """Of a binding."""
    undecided: bool
    """Of a binding: whether its first DATA has still to tell if the connection is a new one."""
    user: int
    session: int
    connection_id: int
    """Of a player, also in its account; else 0."""
    endpoint: int
    """Of a binding: number of its socket."""
    family: int
    peer_port: int
    scope: int
    ip: bytes
    """16 bytes; of an IPv4 address the first four. Of an account: its span."""

    @property
    def key(self) -> tuple[int, int, int]:
        """Whose it is: session, user, port; no two bindings have the same."""
        return self.session, self.user, self.port


def encode(identity: Identity) -> bytes:
    """The first line of a record, but for its checksum, which is the first word."""
    kind, port, undecided, user, session, connection_id, endpoint, family, peer_port, scope, ip = identity
    body = _IDENTITY.pack(kind, port, undecided, user, session, connection_id, endpoint, family, peer_port, scope, ip)
    return body.ljust(COUNTS_AT - _CHECKSUM.size, b"\0")


def checksum(content: bytes) -> bytes:
    """Of a header or a record; never zero, which is what an empty place has."""
    return _CHECKSUM.pack(zlib.crc32(content) or 1)


def decode(line: bytes) -> Identity | None:
    """What a record says of itself; None where there is none, or half of one."""
    if not any(line[: _CHECKSUM.size]) or line[: _CHECKSUM.size] != checksum(line[_CHECKSUM.size : COUNTS_AT]):
        return None
    kind, port, undecided, *rest = _IDENTITY.unpack_from(line, _CHECKSUM.size)
    if kind not in _KINDS or port not in _PORTS:
        return None
    return Identity(Kind(kind), port, bool(undecided), *rest)


def record_at(slot: int) -> int:
    """Where a record begins."""
    return RECORDS_AT + slot * RECORD_BYTES
