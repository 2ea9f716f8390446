"""Sessions from a file: when it is read, what is said of one that cannot be, and what is not believed."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd import files
from relayd.core.desired import Snapshot
from relayd.session_source.file import FileSource
from relayd.session_source.looks import LIMIT_SECONDS
from tests.support.away import Away
from tests.support.links import FakeSessionTable, session
from tests.support.virtual_loop import Running, now, run, turns, until

POLL_SECONDS = 1.0
HOLD_SECONDS = 30.0


class World:
    """A source, its file and a table. To be made on the loop."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sessions.json"
        self.table = FakeSessionTable()
        self.source = FileSource(self.path, self.table, poll_interval=POLL_SECONDS, shrink_hold=HOLD_SECONDS)
        self.status = self.source.status

    def running(self) -> Running:
        return Running(self.source.run())

    def write(self, *numbers: int) -> None:
        """Replaces the file by one with these sessions, as a careful program does."""
        sessions = [
            {"session_id": f"game-{number}", "authorization_token": 100 + number, "session_users": []}
            for number in numbers
        ]
        self.write_text(json.dumps({"sessions": sessions}))

    def write_text(self, text: str | bytes) -> None:
        new = self.path.with_suffix(".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.replace(self.path)

    def ids(self) -> set[str]:
        return set(self.table.session_ids())


def test_it_is_read_at_start_and_whenever_it_changes(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        async with world.running():
            assert world.ids() == {"game-1"}
            world.write(1, 2)
            await asyncio.sleep(POLL_SECONDS)
            await turns()
            assert world.ids() == {"game-1", "game-2"}
            await asyncio.sleep(60 * POLL_SECONDS)
            assert world.table.replaced == 2, "one that is as it was is not read again"
            assert world.status.fresh_at is not None
            assert world.status.fresh_at >= now() - POLL_SECONDS, "it agrees with the table all the time"

    run(work())


def test_one_that_is_refused_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write_text("[")
        async with world.running():
            await asyncio.sleep(60 * POLL_SECONDS)
            assert len(reads) == 1
            world.write(1)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert (len(reads), world.ids()) == (2, {"game-1"})

    reads: list[Path] = []
    read = files.read

    def noted(path: Path) -> tuple[files.Stamp, bytes]:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(files, "read", noted)
    run(work())


def test_one_that_looks_as_it_was_is_read_when_it_was_changed(tmp_path: Path) -> None:
    """As `rsync --inplace --times` and `cp --preserve` leave it: size, time of modification and inode stay."""

    async def work() -> None:
        world = World(tmp_path)
        world.write(1, 2)
        async with world.running():
            before = world.path.stat()
            world.path.write_text(world.path.read_text().replace("game-2", "game-3"))
            os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns))
            after = world.path.stat()
            assert after.st_ctime_ns != before.st_ctime_ns
            for same in ("st_size", "st_mtime_ns", "st_ino"):
                assert getattr(after, same) == getattr(before, same)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert world.ids() == {"game-1", "game-3"}

    run(work())


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        world.write_text(b"\xef\xbb\xbf" + world.path.read_bytes())
        async with world.running():
            assert (world.ids(), world.status.problem) == ({"game-1"}, None)

    run(work())


@pytest.mark.parametrize("kind", ["FIFO", "directory", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    async def work() -> None:
        world = World(tmp_path)
        if kind == "FIFO":
            os.mkfifo(world.path)
        elif kind == "directory":
            world.path.mkdir()
        else:
            world.path.symlink_to("/dev/zero")
        began = now()
        async with world.running():
            said = f"{world.path}: cannot be read: it is a {kind}, and has to be a regular file"
            assert (world.status.problem, now()) == (said, began)
            moved = world.path.rename(tmp_path / "moved")
            world.write(1)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert (world.ids(), world.status.problem) == ({"game-1"}, None)
            assert moved.exists()

    run(work())


def test_a_look_that_hangs_is_said_once_and_the_games_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        async with world.running():
            fresh_at = world.status.fresh_at
            away = Away(monkeypatch)
            with capture_logs() as logs:
                await asyncio.sleep(POLL_SECONDS + LIMIT_SECONDS)
                assert world.status.problem is None
                await asyncio.sleep(1)
                said = f"{world.path}: no answer within 10 s: is the file system it is on away?"
                assert world.status.problem == said
                await asyncio.sleep(3600)
                assert [line["problem"] for line in logs] == [said]
            assert world.ids() == {"game-1"}
            assert world.status.fresh_at == fresh_at, "its age grows"
            assert len(away.hanging) < 12, "the longer it is away, the less often it is looked at"
            away.comes_back()
            await turns()
            assert (world.status.problem, world.status.fresh_at) == (None, now()), "at once"

    run(work())


def test_while_a_look_hangs_a_new_file_is_read_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        world = World(tmp_path)
        away = Away(monkeypatch)
        async with world.running():
            await asyncio.sleep(1000)
            assert world.status.problem is not None
            world.write(1)
            away.away = False
            world.source.reload()
            await turns()
            assert away.hanging
            assert world.ids() == {"game-1"}
            world.write(1, 2)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert world.ids() == {"game-1", "game-2"}, "it is followed as ever"

    run(work())


def test_so_many_looks_hang_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        world = World(tmp_path)
        away = Away(monkeypatch)
        async with world.running():
            for _ in range(100):
                world.source.reload()
                await asyncio.sleep(LIMIT_SECONDS + 1)
            assert len(away.hanging) == 32
            assert "32 looks at it hang" in (world.status.problem or "")
            world.write(1)
            away.comes_back()
            await asyncio.sleep(POLL_SECONDS)
            assert (world.ids(), world.status.problem) == ({"game-1"}, None)

    run(work())


def test_a_reload_reads_at_once_even_one_that_seems_as_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1, 2)
        async with world.running():
            status = world.path.stat()
            world.path.write_text(world.path.read_text().replace("game-2", "game-3"))
            os.utime(world.path, ns=(status.st_atime_ns, status.st_mtime_ns))
            world.source.reload()
            await turns()
            assert world.ids() == {"game-1", "game-3"}
            assert world.status.looked_at == now()

    run(work())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", ":1: not valid JSON"),
        ('{\n "sessions": [\n  {"session_id": "a"}]}', ":3: "),
        (b"\xff\xfe\x00", ": not UTF-8 text"),
        ("", ":1: the file is empty"),
    ],
)
def test_a_broken_file_changes_nothing_and_is_said_once(tmp_path: Path, content: str | bytes, said: str) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        with capture_logs() as logs:
            async with world.running():
                world.write_text(content)
                await asyncio.sleep(100 * POLL_SECONDS)
                assert world.ids() == {"game-1"}
                assert (world.status.problem or "").startswith(f"{world.path}{said}")
                assert [line["log_level"] for line in logs] == ["error"]
                world.write(1, 2)
                await asyncio.sleep(2 * POLL_SECONDS)
                assert world.ids() == {"game-1", "game-2"}
                assert world.status.problem is None
                assert logs[-1]["event"] == "session file followed again"

    run(work())


def test_a_file_that_goes_ends_no_game_and_is_read_when_it_is_back(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        async with world.running():
            moved = world.path.rename(tmp_path / "moved")
            await asyncio.sleep(10 * POLL_SECONDS)
            assert world.ids() == {"game-1"}
            assert "No such file" in (world.status.problem or "")
            moved.rename(world.path)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert world.status.problem is None

    run(work())


def test_one_that_names_nobody_any_more_is_believed_after_a_while(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        world.write(1, 2, 3)
        with capture_logs() as logs:
            async with world.running():
                world.write()
                await until(lambda: world.status.problem is not None)
                assert "lacks 3 of 3 sessions" in (world.status.problem or "")
                doubted_at = now()
                await until(lambda: len(world.ids()) != 3)
                assert HOLD_SECONDS <= now() - doubted_at <= HOLD_SECONDS + POLL_SECONDS + 0.1
                assert world.ids() == set()
                assert world.status.problem is None
        assert [line["log_level"] for line in logs] == ["warning", "info"]

    run(work())


def test_a_defect_while_reading_is_logged_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str, snapshot: Snapshot) -> None:
        raise ZeroDivisionError

    async def work() -> None:
        world = World(tmp_path)
        world.write(1)
        with capture_logs() as logs:
            async with world.running():
                monkeypatch.setattr("relayd.session_source.file.read_sessions", broken)
                world.write(2)
                await asyncio.sleep(2 * POLL_SECONDS)
                assert world.ids() == {"game-1"}
                assert "a defect (ZeroDivisionError)" in (world.status.problem or "")
        assert any(line.get("exc_info") for line in logs)

    run(work())


def test_nobody_can_be_asked_or_told_anything(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        assert (world.source.lookups, world.source.usage) == (None, None)
        world.source.session_ended("game-1")

    run(work())


def test_the_text_of_the_file_is_what_the_table_gets(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path)
        wanted = session(1, users=3)
        users = [{"authorization_token": user.token} for user in wanted.users]
        one = {"session_id": wanted.session_id, "authorization_token": wanted.token, "session_users": users}
        world.write_text(json.dumps({"sessions": [one]}))
        async with world.running():
            assert list(world.table.specs.values()) == [wanted]

    run(work())
