"""The state in memory and its copy on a disk: which of the two a relay begins with."""

import errno
import itertools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.state import kept_copy, layout
from relayd.state.copying import Copy, locked
from relayd.state.kept_copy import Head, is_better
from relayd.state.memory import NAME, StateMemory

DIGEST = 7
OTHER_BOOT = b"\1" * 16
MARK_AT = layout.record_at(5)
NONE = Head("it is not a state file", True, 0, 0, None)
DAMAGED = Head("its checksum is wrong", False, 0, 0, None)
BEFORE_BOOT = Head("", False, DIGEST, 8192, None)
EARLIER = Head("", False, DIGEST, 8192, 10.0)
LATER = Head("", False, DIGEST, 8192, 11.0)
ALL = [NONE, DAMAGED, BEFORE_BOOT, EARLIER, LATER]
BETTER_COPIES = [
    *itertools.product([BEFORE_BOOT, EARLIER, LATER], [NONE, DAMAGED, BEFORE_BOOT]),
    (LATER, EARLIER),
]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A directory on a disk, and one in memory."""
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    return disk, memory


def copied(places: tuple[Path, Path]) -> None:
    disk, memory = places
    with (memory / NAME).open("rb") as live:
        copy = Copy(live.fileno(), disk / NAME, disk / f"{NAME}.set-aside")
        copy.bring_up_to_date()
        copy.close()


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Under the units: the kernel's file is hidden, and the manager says which boot it is, or does not."""
    monkeypatch.setattr(kept_copy, "_BOOT_ID", tmp_path / "hidden")
    return lambda boot: monkeypatch.setenv("BOOT_ID", boot)


def write(state: StateMemory, mark: bytes, beat_seconds: float | None = None) -> None:
    """What tells one file from another, and when it was written; on this boot, unless it says 0."""
    state.memory[MARK_AT : MARK_AT + len(mark)] = mark
    state.beat()
    if beat_seconds is not None:
        boot = kept_copy.this_boot() if beat_seconds else OTHER_BOOT
        layout.HEARTBEAT.pack_into(state.memory, layout.HEARTBEAT_AT, boot, beat_seconds)


def left(folder: Path, mark: bytes, beat_seconds: float) -> None:
    """A relay that had its state in this folder, and nowhere else."""
    state = StateMemory(folder, DIGEST)
    write(state, mark, beat_seconds)
    state.close()


def mark_of(state: StateMemory) -> bytes:
    return state.memory[MARK_AT : MARK_AT + 1]


@pytest.mark.parametrize(("copy", "live"), list(itertools.product(ALL, ALL)))
def test_the_later_one_of_this_boot_is_the_better(copy: Head, live: Head) -> None:
    assert is_better(copy, live) is ((copy, live) in BETTER_COPIES)


@pytest.mark.parametrize(
    ("disk_beat", "memory_beat", "expected"),
    [
        (1.0, 2.0, b"m"),
        (2.0, 1.0, b"d"),
        (0, 1.0, b"m"),
        (1.0, 0, b"d"),
        (0, 0, b"d"),
        (math.nan, 1.0, b"m"),
        (1e300, 1.0, b"m"),
        (-1.0, 1.0, b"m"),
    ],
)
def test_a_relay_begins_with_the_better(
    places: tuple[Path, Path], disk_beat: float, memory_beat: float, expected: bytes
) -> None:
    disk, memory = places
    left(disk, b"d", disk_beat)
    left(memory, b"m", memory_beat)
    state = StateMemory(disk, DIGEST, memory)
    assert mark_of(state) == expected
    assert (state.fresh, state.same_sockets, state.slots) == (False, True, 8192)
    assert state.copies == (memory / NAME, disk / NAME, disk / f"{NAME}.set-aside")
    state.close()


def test_a_relay_without_a_place_in_memory_left_one_with_many_records(places: tuple[Path, Path]) -> None:
    disk, memory = places
    state = StateMemory(disk, DIGEST)
    assert state.grow()
    last = layout.record_at(state.slots) - 1
    state.memory[last] = 1
    write(state, b"d")
    state.close()
    state = StateMemory(disk, DIGEST, memory)
    assert (mark_of(state), state.memory[last], state.slots) == (b"d", 1, 16384)
    assert (memory / NAME).stat().st_size == layout.FILE_BYTES
    assert (memory / NAME).stat().st_blocks * 512 >= layout.record_at(state.slots)
    state.close()


def test_without_either_it_begins_anew_and_says_nothing(places: tuple[Path, Path]) -> None:
    with capture_logs() as logs:
        state = StateMemory(places[0] / "not made yet", DIGEST, places[1])
    assert (state.fresh, logs) == (True, [])
    state.close()
    assert not (places[0] / "not made yet").exists()


def test_what_is_copied_is_begun_with_once_the_memory_is_gone(places: tuple[Path, Path]) -> None:
    disk, memory = places
    state = StateMemory(disk, DIGEST, memory)
    write(state, b"m")
    copied(places)
    state.close()
    (memory / NAME).unlink()
    state = StateMemory(disk, DIGEST, memory)
    assert (mark_of(state), state.fresh) == (b"m", False)
    assert state.silent_seconds() is not None
    state.close()


@pytest.mark.parametrize("damaged", ["disk", "memory"])
def test_of_a_damaged_one_the_other_is_used(places: tuple[Path, Path], damaged: str) -> None:
    disk, memory = places
    left(disk, b"d", 2.0 if damaged == "disk" else 1.0)
    left(memory, b"m", 1.0 if damaged == "disk" else 2.0)
    with ((disk if damaged == "disk" else memory) / NAME).open("r+b") as file:
        file.seek(layout.HEADER_CHECKSUM_AT)
        file.write(b"\xff\xff\xff\xff")
    state = StateMemory(disk, DIGEST, memory)
    assert mark_of(state) == (b"m" if damaged == "disk" else b"d")
    state.close()


def test_a_copy_of_another_layout_is_told(places: tuple[Path, Path]) -> None:
    disk, memory = places
    left(disk, b"d", 1.0)
    with (disk / NAME).open("r+b") as file:
        file.seek(8)
        file.write(bytes(8))
    with capture_logs() as logs:
        state = StateMemory(disk, DIGEST, memory)
    assert state.fresh
    (line,) = logs
    assert line["event"] == "the state of the relay before is not used: players bind again"
    assert line["kept_as"] == str(disk / f"{NAME}.set-aside")
    copied(places)
    assert (disk / f"{NAME}.set-aside").exists()
    state.close()


def test_a_copy_that_cannot_be_read_is_told_and_the_memory_used(places: tuple[Path, Path]) -> None:
    disk, memory = places
    left(memory, b"m", 1.0)
    (disk / NAME).mkdir()
    with capture_logs() as logs:
        state = StateMemory(disk, DIGEST, memory)
    assert (mark_of(state), [line["event"] for line in logs]) == (b"m", ["the copy of the state cannot be read"])
    state.close()


def test_a_file_system_in_memory_that_is_full_is_as_a_disk_that_is(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, memory = places
    left(disk, b"d", 1.0)
    before = (disk / NAME).read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "posix_fallocate", full)
        state = StateMemory(disk, DIGEST, memory)
    (line,) = logs
    assert line["event"] == "no state is kept: after a restart players have to bind again"
    assert (line["directory"], line["why"]) == (str(memory), "No space left on device")
    assert (state.fresh, state.copies) == (True, None)
    assert (disk / NAME).read_bytes() == before
    again = StateMemory(disk, DIGEST, memory)
    assert mark_of(again) == b"d"
    again.close()


def test_a_process_that_ends_while_it_brings_the_copy_in_leaves_it_the_better_one(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, memory = places
    state = StateMemory(disk, DIGEST)
    assert state.grow()
    write(state, b"d")
    state.close()
    pieces: list[int] = []
    pwrite = os.pwrite

    def killed(fd: int, data: bytes, at: int) -> int:
        pieces.append(at)
        if at == 0:
            raise KeyboardInterrupt
        return pwrite(fd, data, at)

    found = kept_copy.open_unless_used(disk / NAME)
    assert found is not None
    file, head = found
    with file, (memory / NAME).open("w+b") as live:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "pwrite", killed)
            kept_copy.bring_in(file.fileno(), live.fileno(), head)
        assert len(pieces) > 1
        assert is_better(head, kept_copy.head_of(live.fileno(), in_memory=True))
    state = StateMemory(disk, DIGEST, memory)
    assert mark_of(state) == b"d"
    state.close()


# Which boot it was ---------------------------------------------------------------------------------------------

FIRST, SECOND = "0f2e" * 8, "6d1b" * 8


@pytest.mark.parametrize(
    ("before", "now", "on_disk", "in_memory"),
    [
        (FIRST, FIRST, True, True),
        (FIRST, SECOND, False, False),
        # Where nobody says: a disk may be of any boot, memory is of this one.
        ("", "", False, True),
        ("", FIRST, False, True),
        (FIRST, "", False, True),
        ("no boot id", "no boot id", False, True),
    ],
)
def test_what_was_written_on_another_boot_is_of_no_use_however_short_that_is_up(
    places: tuple[Path, Path], boots: Callable[[str], None], before: str, now: str, on_disk: bool, in_memory: bool
) -> None:
    disk, memory = places
    for place, told in ((None, on_disk), (memory, in_memory)):
        boots(before)
        state = StateMemory(disk, DIGEST, place)
        write(state, b"s")
        state.close()
        boots(now)
        state = StateMemory(disk, DIGEST, place)
        assert (mark_of(state), state.silent_seconds() is not None) == (b"s", told)
        state.close()


@pytest.mark.parametrize(("before", "now"), [("", ""), (FIRST, SECOND)])
def test_a_copy_of_another_boot_stays_that_in_memory_also_for_a_process_after(
    places: tuple[Path, Path], boots: Callable[[str], None], before: str, now: str
) -> None:
    boots(before)
    left(places[0], b"d", 1.0)
    boots(now)
    for _ in range(2):
        state = StateMemory(places[0], DIGEST, places[1])
        assert (mark_of(state), state.silent_seconds()) == (b"d", None)
        state.close()


def test_the_boot_is_written_alike_by_kernel_and_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert any(kept_copy.this_boot())
    kernels = tmp_path / "boot_id"
    kernels.write_text("0f2e0f2e-0f2e-0f2e-0f2e-0f2e0f2e0f2e\n")
    monkeypatch.setattr(kept_copy, "_BOOT_ID", kernels)
    monkeypatch.setenv("BOOT_ID", SECOND)
    assert kept_copy.this_boot() == bytes.fromhex(FIRST)
    kernels.unlink()
    assert kept_copy.this_boot() == bytes.fromhex(SECOND)


# One relay for a directory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["in memory", "on the disk"])
@pytest.mark.parametrize("second", ["in memory", "elsewhere in memory", "on the disk"])
def test_a_directory_is_one_relays(places: tuple[Path, Path], tmp_path: Path, first: str, second: str) -> None:
    disk, memory = places
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = {"in memory": memory, "elsewhere in memory": elsewhere, "on the disk": None}
    one = StateMemory(disk, DIGEST, where[first])
    with capture_logs() as logs:
        other = StateMemory(disk, DIGEST, where[second])
    assert [line["why"] for line in logs] == ["another relayd is using it"]
    assert (other.fresh, other.copies) == (True, None)
    one.close()
    again = StateMemory(disk, DIGEST, where[second])
    # What was on the disk is brought into memory; what was in memory was not copied.
    assert again.fresh is (first == "in memory" != second)
    again.close()


@pytest.mark.parametrize("link", ["", "folder", "file"])
def test_what_is_in_memory_by_its_directory_has_no_copy(places: tuple[Path, Path], link: str) -> None:
    disk, memory = places
    left(memory, b"m", 1.0)
    directory = {"": memory, "folder": disk / "link", "file": disk}[link]
    if link == "folder":
        directory.symlink_to(memory)
    elif link:
        (disk / NAME).symlink_to(memory / NAME)
    with capture_logs() as logs:
        state = StateMemory(directory, DIGEST, memory)
    assert (mark_of(state), state.copies, logs) == (b"m", None, [])
    state.close()


def test_a_copy_that_somebody_writes_to_is_not_used_nor_waited_for(places: tuple[Path, Path]) -> None:
    """Such as what copied for the relay before, while its disk hangs."""
    disk, memory = places
    left(disk, b"d", 2.0)
    left(memory, b"m", 1.0)
    hangs = locked(disk / NAME)
    state = StateMemory(disk, DIGEST, memory)
    assert mark_of(state) == b"m"
    state.close()
    with capture_logs() as logs:
        by_hand = StateMemory(disk, DIGEST)
    assert [line["why"] for line in logs] == ["another relayd is using it"]
    by_hand.close()
    os.close(hangs)


def test_a_heartbeat_in_the_future_is_none() -> None:
    head = bytearray(kept_copy.HEAD_BYTES)
    for seconds, expected in ((time.monotonic() + 3600, None), (1.0, 1.0)):
        layout.HEARTBEAT.pack_into(head, layout.HEARTBEAT_AT, kept_copy.this_boot(), seconds)
        assert kept_copy.beat_of(bytes(head), in_memory=True) == expected
