"""The state file as Python reads and writes it: little-endian, mapped into memory and written to in place.

What is in it, and where, is declared in relayd/core/declaration/state_file.py.

A record is a line of 64 bytes that says what it is, with a checksum, and one that the forwarding thread counts in,
which can have no checksum. A process can end between any two writes: a record counts only with its checksum,
which is written last.

An account, and such a sum, also says which span of usage it is counted under (relayd/core/usage.py).
"""

import functools
import hashlib
import socket
import struct
import zlib
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from relayd.core.counters import MOST_COUNTED
from relayd.core.declaration import state_file, thread
from relayd.core.declaration.common import TRAFFIC
from relayd.core.declaration.state_file import (
    COUNTERS_AREA,
    DECISIONS_AREA,
    HEARTBEAT_AREA,
    LAYOUT,
    RECORD,
    RECORDS_AREA,
    TOMBSTONES_AREA,
    Kind,
)
from relayd.core.wire import MAX_CONNECTION_ID, Port

__all__ = ["Kind"]

MAGIC = b"relayd\0\0"
DIGEST = LAYOUT.digest
"""Stands in the header: a file with another one is set aside."""

HEADER = state_file.HEADER.packing(last="slots")
HEADER_CHECKSUM_AT = state_file.HEADER.offsets["checksum"]
HEADER_BYTES = state_file.HEADER.size_bytes
HEARTBEAT_AT = HEARTBEAT_AREA.at
HEARTBEAT = state_file.HEARTBEAT.packing()
COUNTERS_AT = COUNTERS_AREA.at
DECISIONS_AT = DECISIONS_AREA.at
DECISIONS_BYTES = DECISIONS_AREA.size_bytes
TOMBSTONES_AT = TOMBSTONES_AREA.at
TOMBSTONE = state_file.TOMBSTONE.packing()
TOMBSTONES = TOMBSTONES_AREA.count
RECORDS_AT = RECORDS_AREA.at
RECORD_BYTES = RECORD.size_bytes
SLOTS = RECORDS_AREA.count
"""Most records there can be."""
FILE_BYTES = RECORDS_AREA.end
COUNTS_AT = RECORD.offsets["counts"]
"""Within a record."""
LAST_SEEN = thread.COUNTS.packing(last="last_seen_seconds")
COUNTS = thread.COUNTS.packing(first="to_host_datagrams")
"""Behind `LAST_SEEN`: what was forwarded, then `COUNTED_DROPS`."""
NO_DROPS = (0,) * len(thread.COUNTED_DROPS)

_CHECKSUM = struct.Struct("<I")
_IDENTITY = state_file.IDENTITY.packing()
_RECORD = struct.Struct(f"<I{COUNTS_AT - _CHECKSUM.size}s{LAST_SEEN.size}x{len(TRAFFIC)}Q{len(NO_DROPS) * 8}x")
"""Checksum, what it is of, and what was forwarded: as COUNTS begins."""
_AT_ONCE = 4096
"""Records copied out of the file at a time."""
_NOTHING = (0, 0, 0, 0)
_SESSIONS_AT_ONCE = 256
"""Sessions whose digest is cached: those read or written at about the same time."""


NO_SPAN = bytes(16)
"""The span of what is counted while usage is not recorded."""
NO_LOCAL = bytes(16)
"""Instead of an address of this host."""
NOWHERE = 0xFFFF
"""Instead of a socket's number: the address of the binding is no longer valid, only its counts are."""


_KINDS = {int(kind): kind for kind in Kind}
_PORTS = frozenset(int(port) for port in Port)
_FAMILIES = frozenset((int(socket.AF_INET), int(socket.AF_INET6)))


class Identity(NamedTuple):
    """What a record is of, and whose."""

    kind: Kind
    port: int
    """Of a binding."""
    undecided: bool
    """Of a binding: whether its first DATA has still to tell if the connection is a new one."""
    family: int
    endpoint: int
    """Of a binding: number of its socket."""
    peer_port: int
    user: int
    session: int
    connection_id: int
    """Of a player, also in its account; else 0."""
    scope: int
    ip: bytes
    """16 bytes; of an IPv4 address the first four. Of anything but a binding: its span, or NO_SPAN."""
    local: bytes
    """Of a binding: the address of this host that its peer sends to, as `ip`; NO_LOCAL where that is not known. Of a
    link-local one, the interface is the peer's scope."""
    game: bytes
    """4 bytes that stand for the session's id: another session may come to have the same tokens."""

    @property
    def key(self) -> tuple[int, int, int]:
        """Whose it is: session, user, port; no two bindings have the same."""
        return self.session, self.user, self.port


def misfit(start: bytes, size_bytes: int) -> str:
    """Why this relay cannot use a file; empty where it can. Its records are validated later, one by one.

    Args:
        start: its first HEADER_BYTES, or all of it if it is shorter.
        size_bytes: its length.
    """
    if not start.startswith(MAGIC):
        return "it is not a state file"
    if len(start) < HEADER_BYTES:
        return f"it ends after {size_bytes} bytes"
    _, digest, _, slots = HEADER.unpack_from(start)
    # Where it stands never changes: what relayd 0.1.0 wrote there is 3, and the length of a record.
    if digest != DIGEST:
        return f"it has layout {digest:016x}, this is {DIGEST:016x}"
    if size_bytes != FILE_BYTES:
        return f"it has {size_bytes} bytes instead of {FILE_BYTES}"
    if start[HEADER_CHECKSUM_AT:HEADER_BYTES] != checksum(start[: HEADER.size]) or slots > SLOTS:
        return "its checksum is wrong"
    return ""


@functools.lru_cache(_SESSIONS_AT_ONCE)
def game_of(session_id: str) -> bytes:
    """`Identity.game` of a session."""
    return hashlib.blake2b(session_id.encode(), digest_size=4).digest()


def encode(identity: Identity) -> bytes:
    """The first line of a record, but for its checksum, which is the first word."""
    return _IDENTITY.pack(*identity).ljust(COUNTS_AT - _CHECKSUM.size, b"\0")


def checksum(content: bytes) -> bytes:
    """Of a header or a record; never zero, which is what an empty place has."""
    return _CHECKSUM.pack(zlib.crc32(content) or 1)


def decode(line: bytes) -> Identity | None:
    """The identity in a record; None for one that is empty, half-written or impossible."""
    (stored,) = _CHECKSUM.unpack_from(line)
    return _decode(stored, line[_CHECKSUM.size : COUNTS_AT])


def records(memory: mmap, slots: int) -> Iterator[tuple[int, Identity, tuple[int, int, int, int]]]:
    """Slot, identity and what was forwarded, in the order of `Traffic.count`, of each valid record.

    A relay reads all there are before it takes in the first datagram, maybe hundreds of thousands.

    Args:
        memory: the file.
        slots: how many places it has, the first of which is never used.
    """
    for first in range(1, slots, _AT_ONCE):
        area = memory[record_at(first) : record_at(min(first + _AT_ONCE, slots))]
        for slot, (stored, body, *counts) in enumerate(_RECORD.iter_unpack(area), first):
            if stored and (identity := _decode(stored, body)) is not None:
                yield slot, identity, plausible(*counts)


def plausible(*counts: int) -> tuple[int, int, int, int]:
    """What was forwarded, from the fields of COUNTS; all zero if they were damaged."""
    return (counts[0], counts[1], counts[2], counts[3]) if max(counts) <= MOST_COUNTED else _NOTHING


def _decode(stored: int, body: bytes) -> Identity | None:
    if not stored or stored != (zlib.crc32(body) or 1):
        return None
    fields = _IDENTITY.unpack_from(body)
    kind = _KINDS.get(fields[0])
    if kind is None or fields[1] not in _PORTS:
        return None
    identity = Identity(kind, *fields[1:])
    return identity if _can_be(identity) else None


def _can_be(identity: Identity) -> bool:
    if identity.kind is not Kind.BINDING:
        return identity.connection_id <= MAX_CONNECTION_ID
    least_id, most_id = (1, MAX_CONNECTION_ID) if identity.port == Port.CLIENT else (0, 0)
    somewhere = identity.family in _FAMILIES and identity.peer_port > 0
    return least_id <= identity.connection_id <= most_id and (somewhere or identity.endpoint == NOWHERE)


def record_at(slot: int) -> int:
    """Where a record begins."""
    return RECORDS_AT + slot * RECORD_BYTES
