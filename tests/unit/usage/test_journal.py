"""What the journal keeps, whatever happens to its file."""

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.core import usage
from relayd.core.usage import Counts, Ledger, Reason
from relayd.usage import journal as module
from relayd.usage import lines
from relayd.usage.journal import NAME, Journal
from relayd.usage.journal_file import JournalFile
from tests.support.away import Away
from tests.support.disks import no_new_file
from tests.support.virtual_loop import Running, run, turns

ONE = Counts(1, 10, 2, 20)


def names() -> Callable[[], str]:
    numbers = count()
    return lambda: f"stream-{next(numbers)}"


def reopened(journal: Journal, folder: Path) -> Journal:
    journal.close()
    return Journal(folder, names())


def state(ledger: Ledger) -> tuple[object, ...]:
    return ledger.stream, ledger.sequence, ledger.acknowledged, ledger.spans, list(ledger.unsent.values())


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A span that ended, of which the first record was taken, and one that goes on."""
    one = Journal(tmp_path, names())
    one.ledger.start("ended", "a", 100.0)
    one.ledger.start("going on", "b", 100.0)
    one.ledger.acknowledge(1)
    one.ledger.stop("ended", ONE, 110.0, Reason.IDLE)
    one.ledger.interim("going on", ONE, 110.0)
    assert asyncio.run(one.write())
    return one


def test_what_was_written_is_there_again(journal: Journal, tmp_path: Path) -> None:
    again = reopened(journal, tmp_path)
    assert state(again.ledger) == state(journal.ledger)
    assert again.stopped == {"ended"}
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_records_are_only_durable_once_the_disk_has_them(journal: Journal, tmp_path: Path) -> None:
    assert journal.durable == 0
    asyncio.run(journal.sync())
    assert journal.durable == 4
    assert reopened(journal, tmp_path).durable == 0


@pytest.mark.parametrize("torn", [b"x", b"00000000 {}\n", b'12345678 {"sequence":', b"\0" * 4096])
def test_a_torn_end_is_cut_off(journal: Journal, tmp_path: Path, torn: bytes) -> None:
    with (tmp_path / NAME).open("ab") as file:
        file.write(torn)
    again = reopened(journal, tmp_path)
    assert state(again.ledger) == state(journal.ledger)
    again.ledger.interim("going on", Counts(9, 9, 9, 9), 120.0)
    assert asyncio.run(again.write())
    assert state(reopened(again, tmp_path).ledger) == state(again.ledger)


@pytest.mark.parametrize("bytes_left", range(1, 40))
def test_any_end_may_be_missing(journal: Journal, tmp_path: Path, bytes_left: int) -> None:
    whole = (tmp_path / NAME).read_bytes()
    head = whole.index(b"\n") + 1
    journal.close()
    (tmp_path / NAME).write_bytes(whole[: head + (len(whole) - head) * bytes_left // 40])
    ledger = Journal(tmp_path, names()).ledger
    assert ledger.stream == "stream-0"
    assert ledger.sequence <= 4


def test_damage_in_the_middle_costs_that_line(journal: Journal, tmp_path: Path) -> None:
    lines = (tmp_path / NAME).read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b"going", b"staying")
    (tmp_path / NAME).write_bytes(b"\n".join(lines))
    again = reopened(journal, tmp_path).ledger
    assert again.spans == journal.ledger.spans
    assert again.sequence == 4


def test_without_its_first_line_nothing_is_lost(journal: Journal, tmp_path: Path) -> None:
    """What was taken already may come again, and counts once: by its span, whatever its number and its stream."""
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(b"X" + whole[1:])
    journal.close()
    again = Journal(tmp_path, lambda: "another")
    assert again.ledger.stream == "another"
    assert again.ledger.spans == journal.ledger.spans
    assert list(again.ledger.unsent) == [2, 3, 4]
    again.ledger.interim("going on", Counts(9, 9, 9, 9), 120.0)
    assert asyncio.run(again.write())
    assert state(reopened(again, tmp_path).ledger) == state(again.ledger)


def test_one_of_another_version_is_set_aside(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.close()
    monkeypatch.setattr(lines, "_VERSION", 2)
    assert not Journal(tmp_path, names()).ledger.spans
    assert (tmp_path / f"{NAME}.set-aside").exists()


@pytest.mark.parametrize("content", [b"something else\n", b"\0" * 100, b"x"])
def test_what_is_no_journal_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    journal = Journal(tmp_path, names())
    journal.ledger.start("span", "a", 100.0)
    assert asyncio.run(journal.write())
    assert (tmp_path / f"{NAME}.set-aside").read_bytes() == content
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)


def test_after_a_sync_that_failed_nothing_is_durable_before_it_is_written_anew(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that begins meanwhile keeps it from being written anew, not from being in doubt."""

    def lost(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lost)
        asyncio.run(journal.sync())
    journal.ledger.start("new", "c", 120.0)
    asyncio.run(journal.sync())
    assert journal.durable == 0
    assert asyncio.run(journal.write())
    before = (tmp_path / NAME).stat().st_ino
    asyncio.run(journal.sync())
    assert journal.durable == 5
    assert (tmp_path / NAME).stat().st_ino != before
    assert journal.problem is None


def test_where_no_other_can_be_made_for_one_that_is_set_aside_usage_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(b"something else\n")
    with monkeypatch.context() as disk:
        disk.setattr(os, "open", no_new_file)
        journal = Journal(tmp_path, names())
    assert not journal.ledger.kept
    journal.ledger.start("span", "a", 100.0)
    assert asyncio.run(journal.write())
    assert (tmp_path / f"{NAME}.set-aside").exists()


def test_only_one_process_uses_it(journal: Journal, tmp_path: Path) -> None:
    before = (tmp_path / NAME).read_bytes()
    second = Journal(tmp_path, names())
    second.ledger.start("span", "a", 100.0)
    assert asyncio.run(second.write())
    assert second.durable == 1
    assert (tmp_path / NAME).read_bytes() == before


def test_one_that_is_rewritten_while_it_is_opened_is_not_used(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def rewritten_before(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        (tmp_path / "new").write_bytes((tmp_path / NAME).read_bytes())
        (tmp_path / "new").rename(tmp_path / NAME)
        journal.close()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", rewritten_before)
    second = Journal(tmp_path, names())
    assert second.ledger.spans == {}
    assert not second.ledger.kept


def test_a_full_disk(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line gets onto it, then nothing; later there is room again."""
    real = os.pwrite

    def full(fd: int, content: bytes, offset: int) -> int:
        room = size + 7 - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, content[:room], offset)

    asyncio.run(journal.sync())
    size = (tmp_path / NAME).stat().st_size
    monkeypatch.setattr(os, "pwrite", full)
    journal.ledger.start("new", "c", 120.0)
    assert not asyncio.run(journal.write())
    assert journal.problem == "No space left on device"
    assert (tmp_path / NAME).stat().st_size == size
    monkeypatch.setattr(os, "pwrite", real)
    assert asyncio.run(journal.write())
    asyncio.run(journal.sync())
    assert journal.problem is None
    assert journal.durable == 5
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)


def test_a_disk_that_stays_full_costs_bounded_memory_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MERGE_FROM", 10)
    monkeypatch.setattr(usage, "MOST_UNSENT", 100)
    monkeypatch.setattr(module, "_LINES_AT_ONCE", 7)
    sizes: list[int] = []
    real = os.pwrite

    def full(_fd: int, content: bytes, _offset: int) -> int:
        sizes.append(content.count(b"\n") if isinstance(content, bytes) else bytes(content).count(b"\n"))
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path, names())
    monkeypatch.setattr(os, "pwrite", full)
    for number in range(500):
        journal.ledger.start(f"span {number}", "a", 100.0)
        journal.ledger.stop(f"span {number}", ONE, 110.0, Reason.IDLE)
        assert not asyncio.run(journal.write())
    assert max(sizes) == 7
    assert len(journal.ledger.unsent) == len(journal.ledger.unwritten) == 100
    monkeypatch.setattr(os, "pwrite", real)
    assert asyncio.run(journal.write_all())
    assert not journal.ledger.unwritten
    assert list(reopened(journal, tmp_path).ledger.unsent) == list(journal.ledger.unsent)


def test_what_the_disk_failed_to_take_is_written_anew(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says so once; the pages that were lost then count as written: fsync(2), EIO."""
    real = os.fsync

    def failing(_fd: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    before = (tmp_path / NAME).stat().st_ino
    asyncio.run(journal.sync())
    assert (journal.durable, journal.problem) == (0, "Input/output error")
    asyncio.run(journal.sync())
    assert (journal.durable, journal.problem) == (4, None)
    assert (tmp_path / NAME).stat().st_ino != before
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)


def test_a_disk_that_hangs_holds_up_nobody_and_is_said_to_hang(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        disk = Away(monkeypatch)
        ledger = journal.ledger
        ledger.start("new", "c", 120.0)
        async with Running(journal.write_forever()):
            journal.write_soon()
            await asyncio.sleep(9.9)
            assert journal.problem is None
            await asyncio.sleep(0.2)
            assert journal.problem == "no answer within 10 s: does its disk hang?"
            assert not ledger.kept
            # What comes meanwhile waits, and is written behind it.
            ledger.interim("new", ONE, 125.0)
            journal.write_soon()
            ticking = asyncio.create_task(journal.write_all())
            await turns()
            assert not ticking.done()
            disk.comes_back()
            assert await ticking
            await journal.sync()
            assert (journal.problem, journal.durable, ledger.kept) == (None, 6, True)

    with capture_logs() as logs:
        run(work())
    assert [line["event"] for line in logs] == [
        "the usage journal cannot be written; usage is recorded once it can",
        "the usage journal can be written again",
    ]
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)


def test_what_is_being_written_is_finished_though_nobody_waits_any_more(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        disk = Away(monkeypatch)
        journal.ledger.start("new", "c", 120.0)
        async with Running(journal.write_forever()):
            journal.write_soon()
            await turns()
        disk.comes_back()
        assert await journal.write_all()

    run(work())
    written = (tmp_path / NAME).read_bytes()
    assert written.count(b'"new","c"') == 1
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)


def test_the_file_is_left_open_where_a_thread_is_still_writing_to_it(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor might be another file's by then."""

    async def work() -> None:
        disk = Away(monkeypatch)
        journal.ledger.start("new", "c", 120.0)
        writing = asyncio.create_task(journal.write())
        await turns()
        journal.close()
        assert not Journal(tmp_path, names()).ledger.kept
        disk.comes_back()
        assert await writing

    run(work())
    assert (tmp_path / NAME).read_bytes().count(b'"new","c"') == 1


def test_a_directory_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file", names())
    journal.ledger.start("span", "a", 100.0)
    assert asyncio.run(journal.write())
    assert journal.durable == 1


def test_what_is_over_and_done_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REWRITE_FROM_BYTES", 10_000)
    journal = Journal(tmp_path, names())

    async def work() -> None:
        for number in range(200):
            ledger = journal.ledger
            ledger.start(f"span {number}", "a", 100.0)
            if number % 10:
                ledger.stop(f"span {number}", ONE, 110.0, Reason.IDLE)
            ledger.acknowledge(ledger.sequence - 3)
            assert await journal.write()
            await journal.sync()

    asyncio.run(work())
    assert journal.durable == journal.ledger.sequence
    assert (tmp_path / NAME).stat().st_size < 3 * 10_000
    again = reopened(journal, tmp_path).ledger
    assert state(again) == state(journal.ledger)
    assert len(again.spans) == 20


def test_it_goes_on_where_there_is_no_room_to_shorten_it(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REWRITE_FROM_BYTES", 10)
    real = JournalFile.append

    def no_room(file: JournalFile, content: bytes) -> int:
        if b'"journal"' in content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content)

    journal = reopened(journal, tmp_path)
    monkeypatch.setattr(JournalFile, "append", no_room)
    journal.ledger.acknowledge(4)
    asyncio.run(journal.sync())
    assert journal.problem == "No space left on device"
    asyncio.run(journal.sync())
    assert journal.durable == 4
    assert journal.problem is None
    assert asyncio.run(journal.write())
    assert state(reopened(journal, tmp_path).ledger) == state(journal.ledger)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
