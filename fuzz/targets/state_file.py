"""What a restarted relay finds as its state file: one that was right, now changed, cut short, or all foreign.

The file of a relay with two games is changed as the input says, with or without its checksums made right again; then
a relay starts with it, gets its sessions, and has to work: nothing of the file is believed that cannot be.
"""

import functools
import math
import struct
from collections import Counter
from unittest import mock

from structlog.testing import capture_logs

from fuzz.figures import Done
from fuzz.reader import Reader
from fuzz.resources import folder
from fuzz.structure import check_table
from relayd.core.counters import Counters
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.table import TOMBSTONE_SECONDS, Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.python.udp import RecordKeeper
from relayd.state import layout
from relayd.state import memory as state_memory
from relayd.state.memory import NAME, StateMemory
from relayd.state.records import Records
from relayd.state.restoration import Restoration

UNIT = "files"

_DIGEST = 0x1234
_ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)]
_HOST, _PLAYERS = 1, (2, 3)
_SESSIONS = (101, 102)
_FIRST_RECORDS = 10
"""Two games have six bindings and four accounts of players."""
_AREAS = (
    (0, layout.HEADER_CHECKSUM_AT + 8),
    (layout.HEARTBEAT_AT, layout.HEARTBEAT.size),
    (layout.COUNTERS_AT, Counters.MEMORY_BYTES),
    (layout.DECISIONS_AT, layout.DECISIONS_BYTES),
    (layout.TOMBSTONES_AT, 64),
    (layout.record_at(1), _FIRST_RECORDS * layout.RECORD_BYTES),
    (layout.record_at(1), _FIRST_RECORDS * layout.RECORD_BYTES),
)
_NUMBERS = (
    struct.pack("<d", math.nan),
    struct.pack("<d", math.inf),
    struct.pack("<d", -math.inf),
    struct.pack("<d", 1e300),
    b"\xff" * 8,
    b"\xff" * 7 + b"\x7f",
    bytes(8),
)
_RECORDS = 16
"""Room for so few makes many runs a second."""


class _Life:
    """A relay from its start, on the state that is in the folder."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.table = Table(Limits(), iter(range(5000, 1 << 31)).__next__)
        self.engine = Engine(self.table)
        self.state = StateMemory(folder(), _DIGEST)
        self.records = Records(self.state, lambda: self.now)
        self.engine.counters.continue_in(self.records.counters_memory())
        self.records.follow(self.table.followers)
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        self.restoration = Restoration(
            state=self.state,
            records=self.records,
            table=self.table,
            endpoints=_ENDPOINTS,
            counters=self.engine.counters,
            now=lambda: self.now,
            longest_silence_seconds=30.0,
        )

    def authorize(self) -> None:
        """The session source names all sessions."""
        users = tuple(UserSpec(user, None) for user in (_HOST, *_PLAYERS))
        self.table.apply(Snapshot.of(SessionSpec(str(token), token, users) for token in _SESSIONS), self.now)
        self.restoration.finish()

    def send(self, port: Port, datagram: bytes, source: Address) -> Verdict:
        """The way of a datagram, as relayd/forwarding/python/udp.py goes it."""
        action = self.engine.handle(_ENDPOINTS[port], datagram, source, self.now)
        if action.player is not None:
            self.records.account(action.player.user)
        return action.verdict

    def play(self) -> None:
        """Everybody sends something."""
        for token in _SESSIONS:
            self.send(Port.SERVER, encode_ping(_HOST, token), ("10.0.0.1", token))
            for player in _PLAYERS:
                self.send(Port.CLIENT, encode_player_data(player, token, b"hello, host"), ("10.0.0.2", token + player))
            for connection_id in list(self.table.by_token[token].players):
                self.send(Port.SERVER, encode_host_data(_HOST, token, connection_id, b"hi"), ("10.0.0.1", token))

    def close(self) -> None:
        """The end of the process."""
        self.records.beat()
        self.records.close()


@functools.cache
def _right() -> bytes:
    """The file of a relay with two games and a session that ended."""
    (folder() / NAME).unlink(missing_ok=True)
    life = _Life(1000.0)
    life.authorize()
    life.play()
    life.records.write_tombstone(103, life.now + TOMBSTONE_SECONDS)
    life.close()
    with (folder() / NAME).open("rb") as kept:
        return kept.read(layout.record_at(_RECORDS))


def _changed(read: Reader) -> tuple[bytes, int]:
    """A file's beginning, and how long it is."""
    content = bytearray(_right())
    how = read.number()
    length = layout.FILE_BYTES
    if how & 3 == 3:
        length = read.number() * 1000
        content = content[:length]
    while read.left:
        start, size = read.pick(_AREAS)
        at = start + int.from_bytes(read.take(2), "little") % size
        what = read.number()
        new = _NUMBERS[what % len(_NUMBERS)] if what >= 128 else read.take(1 + what % 16)
        content[at : at + len(new)] = new
    if how & 4 and len(content) >= layout.record_at(_FIRST_RECORDS):
        _make_checksums_right(content)
    return bytes(content), length


def _make_checksums_right(content: bytearray) -> None:
    size = layout.HEADER.size
    content[size : size + 4] = layout.checksum(bytes(content[:size]))
    for slot in range(1, _FIRST_RECORDS + 1):
        at = layout.record_at(slot)
        if any(content[at : at + 4]):
            content[at : at + 4] = layout.checksum(bytes(content[at + 4 : at + layout.COUNTS_AT]))


def check(data: bytes) -> Done:
    """Raises if a relay cannot start with the file, or believes what cannot be."""
    with capture_logs(), mock.patch.object(state_memory, "_GROWTH", _RECORDS):
        used = _start_with(*_changed(Reader(data)))
    return Done(Counter({"gone on with" if used else "not used": 1}), 1)


def _start_with(content: bytes, length: int) -> bool:
    """Returns whether the relay went on with what it found."""
    path = folder() / NAME
    path.unlink(missing_ok=True)
    with path.open("wb") as kept:
        kept.write(content)
        kept.truncate(max(length, len(content)) if length else 0)
    life = _Life(1001.0)
    used = not life.state.fresh
    life.records.beat()
    life.authorize()
    _holds_together(life)
    life.play()
    _holds_together(life)
    life.now += 2.0
    life.play()
    _everybody_plays(life)
    # Whatever was in the file, in the end everything is over.
    for _ in range(3):
        life.now += 600.0
        while life.table.expire(life.now, 100):
            pass
    assert life.table.bound == [0, 0]
    assert not life.table.sessions
    assert life.table.next_deadline() is None
    life.close()
    return used


def _holds_together(life: _Life) -> None:
    deadline = life.table.next_deadline()
    assert deadline is not None
    assert math.isfinite(deadline)
    counters = life.engine.counters
    for port in Port:
        for verdict in Verdict:
            assert 0 <= counters.datagrams[port][verdict] < 1 << 62
            assert 0 <= counters.bytes[port][verdict] < 1 << 62
    check_table(life.table)
    for session in life.table.sessions.values():
        for binding in session.bindings():
            assert binding.address[1]
            assert life.now - 60 <= binding.last_seen <= life.now


def _everybody_plays(life: _Life) -> None:
    """Two seconds are more than `rebind_after`: even who is bound elsewhere, or buried, is where it sends from."""
    for session in life.table.sessions.values():
        for player in _PLAYERS:
            assert session.users[player].client_binding is not None
