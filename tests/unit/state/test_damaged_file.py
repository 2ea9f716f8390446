"""A state file in which something is wrong: the relay starts, goes on with what can be true, and with nothing else."""

import gc
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.session import User
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from relayd.forwarding.python.udp import RecordKeeper
from relayd.state import layout
from relayd.state.layout import Identity
from relayd.state.memory import NAME, StateMemory
from relayd.state.records import Records
from relayd.state.restoration import Restoration

SERVER, CLIENT = Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)
SESSION, HOST, PLAYER, ENDED_SESSION = 100, 1, 2, 101
HOST_AT, PLAYER_AT = ("10.0.0.1", 7777), ("10.0.0.2", 5001)
HOST_RECORD, PLAYER_RECORD = 1, 3
"""Each is followed by the account of its user."""


class Life:
    """A relay on the state in a folder."""

    def __init__(self, folder: Path) -> None:
        self.table = Table(Limits(), iter(range(500, 1000)).__next__)
        self.engine = Engine(self.table)
        self.state = StateMemory(folder, bind_digest=1)
        self.records = Records(self.state, time.monotonic)
        self.engine.counters.continue_in(self.records.counters_memory())
        self.records.follow(self.table.followers)
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        restoration = Restoration(
            state=self.state,
            records=self.records,
            table=self.table,
            endpoints=[SERVER, CLIENT],
            counters=self.engine.counters,
            now=time.monotonic,
            longest_silence_seconds=30.0,
        )
        users = (UserSpec(HOST, None), UserSpec(PLAYER, None))
        self.table.apply(Snapshot.of([SessionSpec("game", SESSION, users)]), time.monotonic())
        restoration.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.records.beat()
        self.records.close()

    def user(self, token: int) -> User:
        return self.table.by_token[SESSION].users[token]

    def play(self) -> None:
        now = time.monotonic()
        self.engine.handle(SERVER, encode_ping(HOST, SESSION), HOST_AT, now)
        action = self.engine.handle(CLIENT, encode_player_data(PLAYER, SESSION, b"hello"), PLAYER_AT, now)
        assert action.verdict is Verdict.FORWARDED
        self.records.account(self.user(PLAYER))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state of a relay with a host, a player and a session that has ended."""
    with Life(tmp_path) as life:
        life.play()
        life.records.write_tombstone(ENDED_SESSION, time.monotonic() + 60.0)
    # As at the end of a process: the memory, and with it the lock, goes with the last who knows it.
    del life
    gc.collect()
    return tmp_path


def write(folder: Path, at: int, content: bytes) -> None:
    with (folder / NAME).open("r+b") as file:
        file.seek(at)
        file.write(content)


def change_record(folder: Path, slot: int, change: Callable[[Identity], Identity]) -> None:
    """Changes a record and makes its checksum right."""
    with (folder / NAME).open("r+b") as file:
        file.seek(layout.record_at(slot))
        identity = layout.decode(file.read(layout.COUNTS_AT))
        assert identity is not None
        body = layout.encode(change(identity))
        file.seek(layout.record_at(slot))
        file.write(layout.checksum(body) + body)


def test_what_is_right_is_gone_on_with(state: Path) -> None:
    with Life(state) as life:
        assert life.table.bound == [1, 1]
        assert life.user(PLAYER).connection_id == 500
        assert life.table.ended_recently(ENDED_SESSION, time.monotonic())
        assert life.engine.counters.datagrams[Port.CLIENT][Verdict.FORWARDED] == 1


@pytest.mark.parametrize("forgotten_at", [math.nan, math.inf, 1e300])
def test_a_tombstone_that_would_stand_for_ever_is_not_believed(state: Path, forgotten_at: float) -> None:
    write(state, layout.TOMBSTONES_AT, layout.TOMBSTONE.pack(ENDED_SESSION, 1, forgotten_at))
    with Life(state) as life:
        assert not life.table.ended_recently(ENDED_SESSION, time.monotonic())
        deadline = life.table.next_deadline()
        assert deadline is not None
        assert deadline < time.monotonic() + 1000


@pytest.mark.parametrize("area", [layout.COUNTERS_AT, layout.DECISIONS_AT])
def test_counts_that_cannot_be_begin_at_zero(state: Path, area: int) -> None:
    write(state, area, b"\xff" * 16)
    with capture_logs() as logs, Life(state) as life:
        life.play()
        assert "the counts of the relay before are not used: they were damaged" in [line["event"] for line in logs]
        assert life.engine.counters.datagrams[Port.SERVER][Verdict.FORWARDED] == 0
        assert life.table.bound == [1, 1]


@pytest.mark.parametrize("slot", [PLAYER_RECORD, PLAYER_RECORD + 1])
def test_so_do_those_of_a_user(state: Path, slot: int) -> None:
    write(state, layout.record_at(slot) + layout.COUNTS_AT + layout.LAST_SEEN.size, b"\xff" * 32)
    with Life(state) as life:
        life.play()
        traffic = life.user(PLAYER).traffic
        assert traffic is not None
        assert traffic.to_host_datagrams <= 2


@pytest.mark.parametrize(
    "change",
    [
        lambda identity: identity._replace(connection_id=0),
        lambda identity: identity._replace(connection_id=0x8000_0000),
        lambda identity: identity._replace(peer_port=0),
        lambda identity: identity._replace(family=1),
    ],
    ids=["no connection id", "a negative one", "port 0", "no IP address"],
)
def test_a_player_that_cannot_be_is_not_bound(state: Path, change: Callable[[Identity], Identity]) -> None:
    change_record(state, PLAYER_RECORD, change)
    with Life(state) as life:
        assert life.table.bound == [1, 0]
        life.play()
        assert life.table.bound == [1, 1]


def test_an_account_with_an_id_that_cannot_be_is_not_believed(state: Path) -> None:
    change_record(state, PLAYER_RECORD + 1, lambda identity: identity._replace(connection_id=0x8000_0000))
    with Life(state) as life:
        assert life.user(PLAYER).connection_id == 500


@pytest.mark.parametrize("beat", [math.nan, math.inf])
def test_a_heartbeat_that_cannot_be_is_of_nobody(state: Path, beat: float) -> None:
    write(state, layout.HEARTBEAT_AT + 16, struct.pack("<d", beat))
    with Life(state) as life:
        assert life.table.bound == [0, 0]
        life.play()


def test_a_copy_with_holes_gets_room_before_it_is_written_to(state: Path) -> None:
    content = (state / NAME).read_bytes()
    (state / NAME).unlink()
    with (state / NAME).open("wb") as file:
        file.write(content[: layout.record_at(PLAYER_RECORD + 2)])
        file.truncate(len(content))
    with Life(state) as life:
        assert life.table.bound == [1, 1]
        assert (state / NAME).stat().st_blocks * 512 >= layout.record_at(life.state.slots)
