"""What a relay waits for before it takes in the first datagram: on a virtual clock."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.source_status import SourceStatus
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping
from relayd.forwarding.python.udp import RecordKeeper
from relayd.forwarding.sockets import BoundSocket
from relayd.state.predecessor import Predecessor
from tests.support import virtual_loop
from tests.support.sockets import FakeSocket
from tests.unit.state.worlds import ALICE, HERE, HOST, SESSION, THERE

TIMEOUT_SECONDS = 30.0


class Process:
    """A relay's table and what the process before left for it."""

    def __init__(self, folder: Path, port: int = 32000) -> None:
        self.sockets = [
            BoundSocket(Endpoint(Port(number), number), FakeSocket("192.0.2.1", port + number)) for number in range(2)
        ]
        ids = iter(range(1000, 2**31))
        self.table = Table(Limits(user_timeout=TIMEOUT_SECONDS), lambda: next(ids))
        self.engine = Engine(self.table)
        self.source = SourceStatus()
        self.predecessor = Predecessor(
            directory=folder,
            sockets=self.sockets,
            table=self.table,
            counters=self.engine.counters,
            now=lambda: 1000.0,
            user_timeout_seconds=TIMEOUT_SECONDS,
            source=self.source,
            spans=None,
        )
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.predecessor.records))
        self.loaded = asyncio.Event()

    def authorize(self, *users: int) -> None:
        self.table.apply(
            Snapshot.of([SessionSpec("game", SESSION, tuple(UserSpec(user, None) for user in users))]), 1000.0
        )

    def ping(self, port: Port, user: int, source: tuple[str, int]) -> None:
        self.engine.handle(self.sockets[port].endpoint, encode_ping(user, SESSION), source, 1000.0)

    def end(self) -> None:
        self.predecessor.records.beat()
        self.predecessor.records.close()
        for one in self.sockets:
            one.socket.close()

    async def waits(self, *tasks: asyncio.Task[None], kept_sockets: bool = False) -> float:
        """For how many seconds."""
        began = virtual_loop.now()
        await self.predecessor.until_loaded(self.loaded, kept_sockets=kept_sockets, tasks=tasks)
        return virtual_loop.now() - began

    def loaded_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.loaded.set)


@pytest.fixture(name="played")
def _played(tmp_path: Path) -> Path:
    """Where a relay left a host and Alice bound."""
    before = Process(tmp_path)
    before.authorize(HOST, ALICE)
    before.ping(Port.SERVER, HOST, THERE[:2])
    before.ping(Port.CLIENT, ALICE, HERE)
    before.end()
    return tmp_path


@pytest.fixture(name="process")
def _process(played: Path) -> Iterator[Process]:
    process = Process(played)
    yield process
    process.end()


def test_nobody_was_there_before(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert virtual_loop.run(process.waits()) == 0.0
    process.end()


def test_who_was_taken_out_of_the_session_is_another_user_when_it_comes_again(played: Path) -> None:
    process = Process(played)
    process.authorize(HOST, ALICE)
    assert process.table.by_token[SESSION].users[ALICE].connection_id
    process.authorize(HOST)
    process.end()
    process = Process(played)
    process.authorize(HOST, ALICE)
    alice = process.table.by_token[SESSION].users[ALICE]
    assert (alice.connection_id, alice.client_binding, alice.traffic) == (0, None, None)
    process.end()


def test_for_sockets_that_were_kept_it_waits_a_second(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert virtual_loop.run(process.waits(kept_sockets=True)) == pytest.approx(1.0, abs=0.01)
    process.end()


def test_for_whoever_was_bound_it_waits_five(process: Process) -> None:
    assert virtual_loop.run(process.waits()) == pytest.approx(5.0, abs=0.01)


def test_no_longer_than_until_all_who_were_bound_are_named(process: Process) -> None:
    async def main() -> float:
        def name_them() -> None:
            process.authorize(HOST, ALICE)
            process.loaded.set()

        asyncio.get_running_loop().call_later(2.0, name_them)
        return await process.waits()

    assert virtual_loop.run(main()) == pytest.approx(2.0, abs=0.01)
    assert process.predecessor.restoration.restored == 2


def test_one_more_second_for_those_whom_the_last_good_sessions_lack(process: Process) -> None:
    async def main() -> float:
        process.authorize(HOST)
        process.loaded_after(2.0)
        return await process.waits()

    assert virtual_loop.run(main()) == pytest.approx(3.0, abs=0.01)


def test_none_of_that_once_the_source_has_spoken_itself(process: Process) -> None:
    async def main() -> float:
        process.authorize(HOST)
        process.source.succeeded(0.0)
        process.loaded_after(2.0)
        return await process.waits()

    assert virtual_loop.run(main()) == pytest.approx(2.0, abs=0.01)


def test_not_where_something_ended_meanwhile(process: Process) -> None:
    async def main() -> float:
        return await process.waits(asyncio.create_task(asyncio.sleep(0.5)))

    assert virtual_loop.run(main()) == pytest.approx(0.5, abs=0.01)


def test_the_rest_is_given_up(process: Process) -> None:
    process.authorize(HOST)
    assert process.predecessor.restoration.unnamed
    virtual_loop.run(process.predecessor.give_up_the_rest())
    assert not process.predecessor.restoration.unnamed
    assert not process.predecessor.restoration
    process.authorize(HOST, ALICE)
    assert process.table.by_token[SESSION].users[ALICE].client_binding is None


def test_other_sockets_are_nobodys_place(played: Path) -> None:
    process = Process(played, port=33000)
    process.authorize(HOST, ALICE)
    assert process.predecessor.restoration.bound == 0
    assert process.table.by_token[SESSION].bound == 0
    process.end()


def test_counts_go_on(process: Process) -> None:
    assert process.engine.counters.datagrams[Port.CLIENT][Verdict.ANSWERED] == 1
    assert process.predecessor.records.go_on


def test_a_single_one_is_missed_too(tmp_path: Path) -> None:
    before = Process(tmp_path)
    before.authorize(ALICE)
    before.ping(Port.CLIENT, ALICE, HERE)
    before.end()
    process = Process(tmp_path)
    assert (process.predecessor.restoration.bound, process.predecessor.restoration.unnamed) == (1, True)
    process.authorize(ALICE)
    assert not process.predecessor.restoration.unnamed
    process.end()
