"""What keeps the copy of the state: written where it differs, and never for two."""

import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.state import copying
from relayd.state.copying import BLOCK_BYTES, Copy, locked

HELD = "another process holds it, such as the one that copied for the relay before\n"
SIZE_BYTES = 32 * BLOCK_BYTES


class Files:
    """A file that changes, and its copy."""

    def __init__(self, folder: Path) -> None:
        self.live = folder / "live"
        self.path = folder / "made" / "copy"
        self.aside = folder / "made" / "aside"
        self.fd = os.open(self.live, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.fd, SIZE_BYTES)
        self.write(0, b"relayd..layout-1")
        self.copy = Copy(self.fd, self.path, self.aside)

    def write(self, at: int, content: bytes) -> None:
        os.pwrite(self.fd, content, at)

    @property
    def same(self) -> bool:
        return self.path.read_bytes() == self.live.read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path)
    yield files
    files.copy.close()
    os.close(files.fd)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where something was written, in this order."""
    found: list[int] = []
    write = copying._write

    def watched(fd: int, block: bytes, at: int) -> None:
        found.append(at)
        write(fd, block, at)

    monkeypatch.setattr(copying, "_write", watched)
    return found


def test_the_copy_is_as_long_and_takes_as_little_room(files: Files) -> None:
    files.write(5 * BLOCK_BYTES + 1, b"x")
    files.copy.bring_up_to_date()
    assert files.same
    assert files.path.stat().st_blocks * 512 <= 4 * BLOCK_BYTES
    assert files.path.stat().st_mode & 0o777 == 0o600


def test_only_what_changed_is_written_and_the_beginning_last(files: Files, written: list[int]) -> None:
    files.write(5 * BLOCK_BYTES, b"x" * 3 * BLOCK_BYTES)
    files.copy.bring_up_to_date()
    assert sorted(written) == [0, *(n * BLOCK_BYTES for n in (5, 6, 7))]
    assert written[-1] == 0
    written.clear()
    files.copy.bring_up_to_date()
    assert written == []
    files.write(6 * BLOCK_BYTES + 100, b"y")
    files.write(8, b"layout-1")
    files.write(200, b"beat")
    files.copy.bring_up_to_date()
    assert written == [6 * BLOCK_BYTES, 0]
    assert files.same


def test_what_others_left_in_the_copy_goes(files: Files) -> None:
    """Records of a relay before, and a write that hung until now."""
    files.copy.bring_up_to_date()
    for at in (20 * BLOCK_BYTES, 7):
        with files.path.open("r+b") as file:
            file.seek(at)
            file.write(b"left")
        files.copy.bring_up_to_date()
        assert files.same


def test_after_any_changes_it_is_the_same(files: Files) -> None:
    chance = random.Random(7)
    for _ in range(20):
        for _ in range(chance.randrange(5)):
            files.write(chance.randrange(16, SIZE_BYTES - 16), chance.randbytes(16))
        files.copy.bring_up_to_date()
        assert files.same


def test_a_copy_of_another_layout_is_set_aside(files: Files) -> None:
    files.path.parent.mkdir()
    files.path.write_bytes(b"relayd..layout-0 and more")
    files.copy.bring_up_to_date()
    assert files.aside.read_bytes() == b"relayd..layout-0 and more"
    assert files.same


def test_one_that_was_removed_is_made_anew(files: Files) -> None:
    files.copy.bring_up_to_date()
    files.path.unlink()
    files.copy.bring_up_to_date()
    assert files.same


def test_it_is_nobody_elses_meanwhile(files: Files) -> None:
    files.path.parent.mkdir()
    other = locked(files.path)
    with pytest.raises(BlockingIOError):
        files.copy.bring_up_to_date()
    assert files.path.stat().st_size == 0
    os.close(other)
    files.copy.bring_up_to_date()
    with pytest.raises(BlockingIOError):
        locked(files.path)
    files.copy.close()
    os.close(locked(files.path))


# The program --------------------------------------------------------------------------------------------------


class Program:
    """As the relay starts it."""

    def __init__(self, files: Files) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relayd.state.copying", *map(str, (files.live, files.path, files.aside))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def end(self) -> None:
        """Ends it as the end of the relay does, however that came."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def program(files: Files) -> Iterator[Program]:
    program = Program(files)
    with program.process:
        yield program
        program.process.kill()


def test_it_goes_on_until_its_relay_ends_and_has_the_last_of_it(files: Files, program: Program) -> None:
    assert program.says() == "\n"
    assert files.same
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        program.process.send_signal(number)
    files.write(9 * BLOCK_BYTES, b"the last")
    program.end()
    assert program.process.wait() == 0
    assert files.same


def test_it_says_why_it_is_behind_and_when_it_is_not_any_more(files: Files) -> None:
    files.path.parent.mkdir()
    with files.path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        program = Program(files)
        assert program.says() == HELD
        files.aside.mkdir()
        files.path.write_bytes(b"relayd..layout-0")
    with program.process:
        while (said := program.says()) == HELD:
            pass
        assert said == "Is a directory\n"
        files.aside.rmdir()
        while (said := program.says()) == "Is a directory\n":
            pass
        assert said == "\n"
        assert files.same
        program.end()


def test_it_ends_by_itself_after_its_relay_was_killed(files: Files, program: Program) -> None:
    """Nobody reads what it says then."""
    assert program.says() == "\n"
    assert program.process.stdout is not None
    program.process.stdout.close()
    files.write(9 * BLOCK_BYTES, b"the last")
    program.end()
    assert program.process.wait() == 0
    assert files.same
