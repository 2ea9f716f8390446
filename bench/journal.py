"""``python -m bench journal``: the usage journal beside one on SQLite.

What an interval of 100,000 sessions takes, how long the event loop is held on a disk that takes its time, and what is
left of a file in which one byte is damaged. docs/decisions/usage-journal.md says what followed from it.

The slow disk is a library that the program is started with once more: it has every fsync take as long as a disk under
load. Needs a C compiler.
"""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from bench import sqlite_journal
from bench.machine import describe
from bench.sqlite_journal import SqliteJournal
from relayd.core.usage import Counts, UsageRecord
from relayd.usage import lines
from relayd.usage.journal import NAME, Journal

SESSIONS = 100_000
STARTS = 20
FSYNC_SECONDS = 0.2
DAMAGED_SESSIONS = 500
DAMAGES = 300

_SLOW_DISK = """
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static void wait_long(void) { struct timespec t = {%d, %d}; nanosleep(&t, 0); }
int fsync(int fd) { wait_long(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { wait_long(); return syscall(SYS_fdatasync, fd); }
"""
_STARTED_AGAIN = "BENCH_JOURNAL_SLOW_DISK"

_AnyJournal = Journal | SqliteJournal

WAYS: dict[str, Callable[[Path], _AnyJournal]] = {
    "journal": lambda folder: Journal(folder, lambda: "bench"),
    "SQLite, synchronous=NORMAL": lambda folder: SqliteJournal(folder, "NORMAL"),
    "SQLite, synchronous=OFF": lambda folder: SqliteJournal(folder, "OFF"),
}


class Interval(NamedTuple):
    """What recording all sessions once takes."""

    cpu_seconds: float
    longest_write_seconds: float
    written_bytes: int


class Left(NamedTuple):
    """Of all records, over all damages."""

    lost: int
    wrong: int
    """Read, and not as they were written."""
    files_refused: int


def main() -> None:
    """Runs and prints."""
    if _STARTED_AGAIN in os.environ:
        for name, make in WAYS.items():
            print(f"  {name:28}{asyncio.run(_longest_start(make)) * 1e3:8.1f} ms")
        return
    print(describe())
    print(f"an interval of {SESSIONS:,} sessions, the records of the one before having been taken")
    for name, make in WAYS.items():
        took = asyncio.run(_interval(make))
        print(
            f"  {name:28}{took.cpu_seconds:8.2f} s processor  {took.longest_write_seconds * 1e3:7.1f} ms longest write"
            f"  {took.written_bytes / 1e6:7.1f} MB written"
        )
    print(f"the longest of {STARTS} starts of a session, on the loop, where fsync takes {FSYNC_SECONDS * 1e3:.0f} ms")
    sys.stdout.flush()
    _on_slow_disk()
    seed = random.randrange(1 << 32)
    print(f"one byte damaged, {DAMAGES} times, of {2 * DAMAGED_SESSIONS:,} records (seed {seed})")
    for name, left in (("journal", _damage_journal(seed)), ("SQLite", _damage_sqlite(seed))):
        print(
            f"  {name:28}{left.lost / DAMAGES:8.1f} records lost each time, {left.wrong} read wrong in all,"
            f" {left.files_refused} files refused"
        )


async def _interval(make: Callable[[Path], _AnyJournal]) -> Interval:
    with tempfile.TemporaryDirectory() as name:
        journal = make(Path(name))
        ledger = journal.ledger
        for number in range(SESSIONS):
            ledger.start(f"{number:032x}", f"session-{number}", 1e9)
        await journal.write_all()
        await journal.sync()
        ledger.acknowledge(ledger.sequence)
        for number in range(SESSIONS):
            ledger.interim(f"{number:032x}", Counts(number + 1, number + 1, number + 1, number + 1), 1e9 + 60)
        before, began, longest = _written_bytes(), time.process_time(), 0.0
        while ledger.unwritten:
            longest = max(longest, await _held(journal.write()))
        await journal.sync()
        took = Interval(time.process_time() - began, longest, _written_bytes() - before)
        journal.close()
        return took


async def _held(work: Coroutine[Any, Any, object]) -> float:
    """Seconds that the loop is held at a time, at most, until that is done."""
    doing = asyncio.ensure_future(work)
    longest, at = 0.0, time.perf_counter()
    while not doing.done():
        await asyncio.sleep(0)
        longest, at = max(longest, time.perf_counter() - at), time.perf_counter()
    await doing
    return longest


def _written_bytes() -> int:
    """That this process has handed to write(2) and the like."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["wchar"])


async def _longest_start(make: Callable[[Path], _AnyJournal]) -> float:
    """Seconds that the loop is held by the first record of a session, while the disk takes those before it."""
    longest = 0.0
    with tempfile.TemporaryDirectory() as name:
        journal = make(Path(name))
        for number in range(STARTS):
            journal.ledger.start(f"{number:032x}", f"session-{number}", 1e9)
            longest = max(longest, await _held(journal.write()))
            await journal.sync()
        journal.close()
    return longest


def _on_slow_disk() -> None:
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name, "slow.c"), Path(name, "slow.so")
        source.write_text(_SLOW_DISK % divmod(int(FSYNC_SECONDS * 1e9), 10**9), encoding="ascii")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        variables = {**os.environ, _STARTED_AGAIN: "1", "LD_PRELOAD": str(library)}
        subprocess.run([sys.executable, "-m", "bench", "journal"], env=variables, check=True)


def _damage_journal(seed: int) -> Left:
    with tempfile.TemporaryDirectory() as name:
        written = asyncio.run(_fill(Journal(Path(name), lambda: "bench")))
        content = (Path(name) / NAME).read_bytes()

    def read(damaged: bytes) -> list[UsageRecord]:
        try:
            return list(lines.Replayed(damaged, lambda: "another").ledger.unsent.values())
        except lines.NoJournalError:
            return []

    return _after_damage(content, written, read, seed)


def _damage_sqlite(seed: int) -> Left:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / sqlite_journal.NAME
        written = asyncio.run(_fill(SqliteJournal(Path(name))))
        content = path.read_bytes()

        def read(damaged: bytes) -> list[UsageRecord]:
            path.write_bytes(damaged)
            try:
                return sqlite_journal.read(path)
            except (sqlite3.Error, ValueError, TypeError):
                return []

        return _after_damage(content, written, read, seed)


async def _fill(journal: _AnyJournal) -> list[UsageRecord]:
    ledger = journal.ledger
    for number in range(DAMAGED_SESSIONS):
        ledger.start(f"{number:032x}", f"session-{number}", 1e9)
    for number in range(DAMAGED_SESSIONS):
        ledger.interim(f"{number:032x}", Counts(number + 1, number + 1, number + 1, number + 1), 1e9 + 60)
    await journal.write_all()
    await journal.sync()
    journal.close()
    return list(ledger.unsent.values())


def _after_damage(
    content: bytes, written: list[UsageRecord], read: Callable[[bytes], list[UsageRecord]], seed: int
) -> Left:
    assert read(content) == written
    chance = random.Random(seed)
    known, lost, wrong, refused = set(written), 0, 0, 0
    for _ in range(DAMAGES):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= chance.randrange(1, 256)
        found = set(read(bytes(damaged)))
        refused += not found
        wrong += len(found - known)
        lost += len(known - found)
    return Left(lost, wrong, refused)
