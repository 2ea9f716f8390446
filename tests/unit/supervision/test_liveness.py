"""What a manager hears of a relay over its life, and that it hears no beat of one whose sockets are not read."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.limits import Limits
from relayd.core.source_status import SourceStatus
from relayd.core.table import Table
from relayd.supervision import liveness
from relayd.supervision.liveness import EXTENSION, Liveness
from relayd.supervision.probes import ProbedEngine
from relayd.supervision.service_manager import ServiceManager
from tests.support.links import session
from tests.support.managers import ListeningManager
from tests.support.relays import ids_in_order
from tests.support.sockets import fake_ports
from tests.support.virtual_loop import Running, now, run, turns

WATCHDOG_SECONDS = 20.0


class FakeProbes:
    """Says of the sockets what the test says."""

    stuck: ClassVar[list[Endpoint]] = []

    def __init__(self, engine: ProbedEngine, sockets: object) -> None:
        self.closed = False

    def unread(self) -> list[Endpoint]:
        return list(FakeProbes.stuck)

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, folder: Path, watchdog_seconds: float | None = WATCHDOG_SECONDS) -> None:
        self.listening = ListeningManager(folder)
        self.manager = ServiceManager(self.listening.address, watchdog_seconds)
        self.table = Table(Limits(), ids_in_order())
        self.engine = ProbedEngine(self.table)
        self.source = SourceStatus()
        self.sockets = fake_ports()
        self.liveness = Liveness(self.manager, self.engine, self.source)
        self.started = asyncio.Event()
        self.started.set()

    def running(self) -> Running:
        return Running(self.liveness.run_forever(self.sockets, self.started))

    def load(self, *numbers: int) -> None:
        self.table.apply(Snapshot.of(session(number) for number in numbers), now())

    async def heard_over(self, seconds: float) -> list[str]:
        await asyncio.sleep(seconds)
        return self.listening.lines()

    def close(self) -> None:
        self.manager.close()
        self.listening.close()
        for one in self.sockets:
            one.socket.close()


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProbes, "stuck", [])
    monkeypatch.setattr(liveness, "Probes", FakeProbes)


def in_world(folder: Path, work: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def started() -> None:
        world = World(folder, **options)
        world.listening.read_along()
        try:
            await work(world)
        finally:
            world.close()

    run(started())


def test_a_start_that_takes_long_is_prolonged_and_ready_is_said_once_there_are_sessions(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with world.running():
            heard = await world.heard_over(30.0)
            assert heard[0] == "STATUS=no sessions yet: still reading them"
            assert heard.count(EXTENSION) in range(28, 32)
            assert heard.count("WATCHDOG=1") in range(28, 32), "in an upgrade the manager's watchdog runs on"
            assert "READY=1" not in heard
            world.load(1, 2)
            heard = await world.heard_over(0.1)
            assert heard[0] == "STATUS=2 sessions, 0 of them playing"
            assert heard[1] == "READY=1"
            assert heard[2].startswith("MONOTONIC_USEC=")
            heard = await world.heard_over(60.0)
            assert set(heard) == {"WATCHDOG=1"}

    in_world(tmp_path, work)


def test_one_that_has_sessions_and_does_not_read_its_sockets_yet_is_not_ready(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.started.clear()
        world.load(1)
        async with world.running():
            heard = await world.heard_over(10.0)
            assert {"WATCHDOG=1", EXTENSION} < set(heard)
            assert "READY=1" not in heard
            world.started.set()
            assert "READY=1" in await world.heard_over(0.1)

    in_world(tmp_path, work)


def test_it_beats_several_times_within_the_watchdogs_time(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            await world.heard_over(1.0)
            assert len(await world.heard_over(10.0)) == pytest.approx(100, abs=1)

    in_world(tmp_path, work, watchdog_seconds=0.4)


def test_where_nobody_watches_no_beat_is_sent(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            assert "WATCHDOG=1" not in await world.heard_over(60.0)

    in_world(tmp_path, work, watchdog_seconds=None)


def test_sockets_that_nobody_reads_end_the_beats_and_are_named_once(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            await world.heard_over(5.0)
            FakeProbes.stuck = [world.sockets[1].endpoint]
            with capture_logs() as logs:
                assert await world.heard_over(10.0) in ([], ["WATCHDOG=1"])
                assert [line["sockets"] for line in logs] == [["client 1"]]
                FakeProbes.stuck = []
                assert len(await world.heard_over(10.0)) >= 9, "they are read again"

    in_world(tmp_path, work)


def test_how_it_is_doing_is_told_when_it_changes_and_in_one_line(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            await world.heard_over(2.0)
            world.source.failed("line one\nline\ttwo")
            world.engine.draining = True
            heard = await world.heard_over(20.0)
            assert [line for line in heard if line.startswith("STATUS")] == [
                "STATUS=1 sessions, 0 of them playing; new ones are refused;"
                " the session source is not followed: line one line two"
            ]

    in_world(tmp_path, work)


def test_a_reload_is_over_when_the_source_was_looked_at_since(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            await world.heard_over(2.0)
            world.source.looked(now() - 0.001)
            world.liveness.reloading()
            heard = await world.heard_over(3.0)
            assert heard[0] == "RELOADING=1"
            assert heard[1].startswith("MONOTONIC_USEC=")
            assert "READY=1" not in heard, "what was looked at before does not count"
            world.source.looked(now())
            assert "READY=1" in await world.heard_over(0.1)

    in_world(tmp_path, work)


def test_a_reload_before_it_is_ready_is_not_told(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with world.running():
            await world.heard_over(1.0)
            world.liveness.reloading()
            assert world.listening.lines() == []

    in_world(tmp_path, work)


@pytest.mark.parametrize(
    ("for_another", "first"), [(False, ["STOPPING=1", "STATUS=stopping"]), (True, ["RELOADING=1", "MONOTONIC_USEC="])]
)
def test_at_the_end_only_beats_are_told(tmp_path: Path, for_another: bool, first: list[str]) -> None:
    async def work(world: World) -> None:
        world.load(1)
        async with world.running():
            await world.heard_over(2.0)
            world.liveness.stopping(for_another=for_another)
            heard = world.listening.lines()
            assert [line[: len(wanted)] for line, wanted in zip(heard, first, strict=False)] == first
            world.source.failed("says nothing any more")
            assert set(await world.heard_over(10.0)) == {"WATCHDOG=1"}

    in_world(tmp_path, work)


def test_the_sockets_are_handed_over(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.liveness.keep(world.sockets)
        lines = [message.lines for message in world.listening.messages()]
        assert lines == [
            ["FDSTORE=1", "FDNAME=udp-192.0.2.1-5000", "FDPOLL=0"],
            ["FDSTORE=1", "FDNAME=udp-192.0.2.1-5001", "FDPOLL=0"],
        ]
        await turns(1)

    in_world(tmp_path, work)
