"""The last good table on disk: when it is written, under which state, and what is done when it cannot be."""

import asyncio
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import SessionSpec, Snapshot
from relayd.session_source.control_plane.keeper import Keeper
from relayd.session_source.control_plane.last_good import LastGood, LastGoodError
from relayd.session_source.control_plane.link import LinkError, Version
from tests.support.away import Away
from tests.support.links import FakeSessionTable, session
from tests.support.virtual_loop import Running, now, run, turns, until
from tests.unit.session_source.control_plane.worlds import World


class Disk(LastGood):
    """Notes what is written when, may be slow, and fails as it is told."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.written: list[tuple[float, set[str], Version | None]] = []
        self.problem: str | None = None
        self.takes_seconds = 0.0
        self.tried_at: list[float] = []

    async def save(self, sessions: Iterable[SessionSpec], version: Version | None) -> None:
        self.tried_at.append(now())
        await asyncio.sleep(self.takes_seconds)
        if self.problem is not None:
            raise LastGoodError(self.problem)
        specs = list(sessions)
        await super().save(specs, version)
        self.written.append((now(), {spec.session_id for spec in specs}, version))


class Kept:
    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        self.table = FakeSessionTable()
        self.keeper = Keeper(self.disk, self.table)

    async def holds(self, *numbers: int) -> None:
        await self.table.replace(Snapshot.of(session(number) for number in numbers))


def test_what_changes_within_two_seconds_is_written_once(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        async with Running(kept.keeper.keep()):
            for number in range(3):
                await kept.holds(*range(number))
                kept.keeper.changed(Version("e", number))
                await asyncio.sleep(0.5)
            await asyncio.sleep(60.0)
            ((_, ids, version),) = kept.disk.written
            assert (ids, version) == ({"game-0", "game-1"}, Version("e", 2))

    run(work())


def test_without_a_change_nothing_is_written(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        async with Running(kept.keeper.keep()):
            await asyncio.sleep(1000.0)
        assert kept.disk.written == []

    run(work())


def test_what_changed_last_is_written_when_the_relay_ends(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        async with Running(kept.keeper.keep()):
            await kept.holds(7)
            kept.keeper.changed(None)
            await asyncio.sleep(0.1)
        ((_, ids, version),) = kept.disk.written
        assert (ids, version) == ({"game-7"}, None)

    run(work())


def test_one_that_is_being_written_when_the_relay_ends_is_written_again(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        kept.disk.takes_seconds = 1.0
        async with Running(kept.keeper.keep()):
            await kept.holds(7)
            kept.keeper.changed(None)
            await asyncio.sleep(2.5)
            assert kept.disk.written == []
        assert [ids for _, ids, _ in kept.disk.written] == [{"game-7"}]

    run(work())


def test_a_disk_that_hangs_holds_up_the_end_for_a_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        with capture_logs() as logs:
            async with Running(kept.keeper.keep()):
                kept.keeper.changed(None)
                Away(monkeypatch)
                await asyncio.sleep(60.0)
                assert logs == []
                began = now()
            assert now() - began == 5
        assert [line["event"] for line in logs] == ["last good sessions not kept"]

    run(work())


def test_a_slow_disk_is_written_a_twentieth_of_the_time(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        kept.disk.takes_seconds = 3.0

        async def change_all_the_time() -> None:
            while True:
                kept.keeper.changed(None)
                await asyncio.sleep(0.5)

        async with Running(kept.keeper.keep(), change_all_the_time()):
            await asyncio.sleep(400.0)
        first, second, *_ = [at for at, _, _ in kept.disk.written]
        assert second - first == pytest.approx(3.0 * 20 + 2.0 + 3.0, abs=0.6)

    run(work())


def test_a_full_disk_is_said_once_and_tried_again(tmp_path: Path) -> None:
    async def work() -> None:
        kept = Kept(tmp_path)
        kept.disk.problem = "no space left on device"
        await kept.holds(7)
        with capture_logs() as logs:
            async with Running(kept.keeper.keep()):
                kept.keeper.changed(None)
                await asyncio.sleep(120.0)
                assert [line["problem"] for line in logs] == ["no space left on device"]
                tried_at = kept.disk.tried_at
                # Half a minute, and the two seconds in which changes are gathered.
                assert [after - before for before, after in itertools.pairwise(tried_at)] == pytest.approx([32.0] * 3)
                kept.disk.problem = None
                await asyncio.sleep(40.0)
                assert [ids for _, ids, _ in kept.disk.written] == [{"game-7"}]
                kept.disk.problem = "no space left on device"
                kept.keeper.changed(None)
                await asyncio.sleep(120.0)
                assert len(logs) == 2, "a disk that is full once more is said once more"

    run(work())


def test_what_cannot_be_read_is_said_and_not_used(tmp_path: Path) -> None:
    (tmp_path / "last-good-sessions.json").write_text("{")
    with capture_logs() as logs:
        assert run(Kept(tmp_path).keeper.load()) is None
    assert [line["log_level"] for line in logs] == ["warning"]


def test_where_nothing_was_kept_nothing_is_said(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert run(Kept(tmp_path).keeper.load()) is None
    assert logs == []


def test_what_is_written_can_be_read_and_only_by_its_owner(tmp_path: Path) -> None:
    async def work() -> None:
        disk = LastGood(tmp_path / "new")
        await disk.save([session(number) for number in range(1200)], Version("e", 9))
        assert disk.path.stat().st_mode & 0o777 == 0o600
        found = await disk.load()
        assert found is not None
        assert found[1] == Version("e", 9)
        assert found[0].sessions == {f"game-{number}": session(number) for number in range(1200)}

    run(work())


def test_a_folder_that_cannot_be_written_to_leaves_the_old_file(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "folder").write_text("a file in its place")
        with pytest.raises(LastGoodError, match="cannot be written"):
            await LastGood(tmp_path / "folder").save([session(1)], None)

    run(work())


# Together with the source -----------------------------------------------------------------------------------


def head(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "last-good-sessions.json").read_text())
    return found


def followed(folder: Path) -> World:
    """A source that keeps its table there."""
    table = FakeSessionTable()
    return World(keeper=Keeper(LastGood(folder), table), table=table)


def test_a_relay_that_starts_while_its_control_plane_is_away_serves_what_it_kept(tmp_path: Path) -> None:
    async def first() -> None:
        world = followed(tmp_path)
        world.link.put(session(1), session(2))
        async with world.running():
            await asyncio.sleep(10.0)

    async def second() -> None:
        world = followed(tmp_path)
        world.link.hangs = True
        async with world.running():
            await turns(50)
            assert world.ids() == {"game-1", "game-2"}
            assert not world.status.followed, "it is not what the control plane says now"
            assert world.link.reports[0].applied == (world.link.epoch, 2)

    run(first())
    run(second())


def test_a_session_that_ended_is_not_kept_after_it(tmp_path: Path) -> None:
    async def work() -> None:
        world = followed(tmp_path)
        world.link.put(session(1), session(2))
        async with world.running():
            await asyncio.sleep(10.0)
            assert {one["session_id"] for one in head(tmp_path)["sessions"]} == {"game-1", "game-2"}
            world.link.failure = LinkError("away")
            await world.table.replace(Snapshot.of([session(2)]))
            world.source.session_ended("game-1")
            await asyncio.sleep(10.0)
            kept = head(tmp_path)
            assert {one["session_id"] for one in kept["sessions"]} == {"game-2"}
            assert "epoch" not in kept, "the control plane has yet to hear of it: all is to be read again"
            world.link.failure = None
            world.link.remove("game-1")
            await asyncio.sleep(60.0)
            kept = head(tmp_path)
            assert (kept["epoch"], kept["revision"]) == world.link.version

    run(work())


def test_what_is_kept_follows_what_changes(tmp_path: Path) -> None:
    async def work() -> None:
        world = followed(tmp_path)
        seen = []
        async with world.running():
            for number in itertools.count(1):
                world.link.put(session(number))
                await asyncio.sleep(10.0)
                seen.append(len(head(tmp_path)["sessions"]))
                if number == 3:
                    break
        assert seen == [1, 2, 3]

    run(work())


def test_a_relay_that_ends_has_kept_its_sessions_before_it_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        world = followed(tmp_path)
        async with world.running():
            await asyncio.sleep(5.0)
            world.link.put(session(1))
            await until(lambda: world.ids() == {"game-1"})
        assert {one["session_id"] for one in head(tmp_path)["sessions"]} == {"game-1"}

    run(work())
