"""The journal of usage records: an append-only file, compacted once most of its records were acknowledged."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import structlog

from relayd.core.usage import Ledger, UsageRecord
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.usage import lines
from relayd.usage.journal_file import JournalFile, sync_directory

T = TypeVar("T")

NAME = "usage.journal"

_REWRITE_FROM_BYTES = 4 << 20
_LINES_AT_ONCE = 500
_MANY_BYTES = 1 << 20
_HANGS_SECONDS = 10.0
"""Beyond that a disk is said to hang."""

_log = structlog.get_logger()


class Journal:
    """Keeps a ledger over crashes of the process and, from the next `sync` on, of the host.

    What cannot be written stays in memory and is tried again with the next `write`. Only opening it waits for the disk:
    all else is done in threads, for as long as that takes.

    Args:
        directory: where the file is, or None for memory alone.
        new_stream: gives a name that no other journal has.
    """

    def __init__(self, directory: Path | None, new_stream: Callable[[], str]) -> None:
        self.problem: str | None = None
        """Why it cannot be written at present."""
        self.stopped: set[str] = set()
        """Spans of the predecessor whose last record is made."""
        self.durable = 0
        """Records up to this number are on the disk."""
        self._new_stream = new_stream
        self._path = directory / NAME if directory is not None else None
        self._file: JournalFile | None = None
        self._bytes = 0
        """Length of the file with all that is known to be in it."""
        self._lines = 0
        """Records in the file."""
        self._rewrite_from_bytes = _REWRITE_FROM_BYTES
        self._written = 0
        """Records up to this number are in the file."""
        self._acknowledged = 0
        """Acknowledged up to this number, as the file has it."""
        self._synced_bytes = 0
        self._meanwhile: list[UsageRecord] | None = None
        """What is written while the file is being compacted."""
        self._turn = asyncio.Lock()
        """Of whoever writes to the file, or puts another in its place: records are in the order of their numbers."""
        self._syncing = asyncio.Lock()
        self._soon = asyncio.Event()
        self._doubtful = False
        """Whether a sync failed: the kernel may have lost some of it, and report success the next time (fsync(2))."""
        self.ledger = self._open(self._path) if self._path is not None else Ledger(new_stream())

    # Opening ------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> Ledger:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = JournalFile(path)
            content = path.read_bytes()
            if content:
                try:
                    return self._go_on(self._file, content)
                except lines.NoJournalError as error:
                    aside = path.with_name(f"{NAME}.set-aside")
                    path.rename(aside)
                    _log.warning("the usage journal is not used: a new one begins", why=str(error), kept_as=str(aside))
                    self.close()
                    self._file = JournalFile(path)
            return self._begin(self._file, path.parent)
        except BlockingIOError:
            why = "another relayd is using it"
        except OSError as error:
            why = error.strerror or str(error)
        self.close()
        _log.warning("usage records are not kept: a crash loses those that wait", journal=str(path), why=why)
        ledger = Ledger(self._new_stream())
        ledger.kept = False
        return ledger

    def _go_on(self, file: JournalFile, content: bytes) -> Ledger:
        # The collector would visit the records again and again while they become more.
        with many_new_objects() if len(content) > _MANY_BYTES else contextlib.nullcontext():
            replayed = lines.Replayed(content, self._new_stream)
        ledger, self.stopped = replayed.ledger, replayed.stopped
        if replayed.damaged:
            _log.warning("usage journal: damaged lines are left out", lines=replayed.damaged)
        file.cut(replayed.bytes)
        self._bytes, self._lines = replayed.bytes, replayed.records
        self._written, self._acknowledged = ledger.sequence, ledger.acknowledged
        if replayed.headless:
            self._bytes = file.append(lines.head(ledger, ledger.sequence, ledger.acknowledged))
        return ledger

    def _begin(self, file: JournalFile, folder: Path) -> Ledger:
        ledger = Ledger(self._new_stream())
        self._bytes = file.append(lines.head(ledger, 0, 0))
        sync_directory(folder)
        return ledger

    # Writing ------------------------------------------------------------------------------------------------

    def write_soon(self) -> None:
        """Has `write_forever` write what is new, within milliseconds."""
        self._soon.set()

    async def write_forever(self) -> None:
        """Writes whenever `write_soon` was called, until cancelled."""
        while True:
            await self._soon.wait()
            self._soon.clear()
            await self.write_all()

    async def write(self) -> bool:
        """Puts into the file what is new in the ledger, some of it at least: no crash of the process loses it then.

        Returns:
            Whether it can be written.
        """
        return await self._to_its_end(self._write())

    async def write_all(self) -> bool:
        """Puts all of it into the file, bit by bit.

        Returns:
            Whether it can be written.
        """
        while await self.write():
            if not self.ledger.unwritten:
                return True
        return False

    async def _write(self) -> bool:
        async with self._turn:
            ledger = self.ledger
            if self._file is None:
                ledger.unwritten.clear()
                self._written = self.durable = ledger.sequence
                return True
            new = list(islice(ledger.unwritten.values(), _LINES_AT_ONCE))
            acknowledged = ledger.acknowledged
            content = lines.records(new)
            if acknowledged > self._acknowledged:
                content += lines.acknowledged(acknowledged)
            try:
                self._bytes = await asyncio.to_thread(self._file.append, content)
            except OSError as error:
                self._complain(error.strerror or str(error))
                return False
            for record in new:
                # It may have been merged into a later one meanwhile.
                ledger.unwritten.pop(record.sequence, None)
                self._written = record.sequence
            self._acknowledged = acknowledged
            self._lines += len(new)
            if self._meanwhile is not None:
                self._meanwhile += new
            return True

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Does it, also if whoever waits for it is cancelled; says so where it takes too long."""
        doing = asyncio.ensure_future(work)
        if not (await asyncio.wait([doing], timeout=_HANGS_SECONDS))[0]:
            self._complain(f"no answer within {_HANGS_SECONDS:g} s: does its disk hang?")
        return await asyncio.shield(doing)

    async def sync(self) -> None:
        """Syncs the file to disk, compacted first where that is worth it."""
        await self._to_its_end(self._sync_in_turn())

    async def _sync_in_turn(self) -> None:
        async with self._syncing:
            await self._sync()

    async def _sync(self) -> None:
        file = self._file
        if self._path is None or file is None or self._bytes == self._synced_bytes:
            return
        ledger = self.ledger
        try:
            mostly_over = self._lines > 2 * max(len(ledger.spans), len(ledger.unsent))
            worth_it = self._doubtful or (self._bytes > self._rewrite_from_bytes and mostly_over)
            # Not while a record waits to be written: earlier ones, which are in the file, may have been merged into it.
            if worth_it and not ledger.unwritten:
                file = await self._rewrite(file, self._path)
            elif self._doubtful:
                return
            written, size = self._written, self._bytes
            self._doubtful = True
            await asyncio.to_thread(file.sync)
            self._doubtful = False
            self._synced_bytes, self.durable = size, written
        except OSError as error:
            self._complain(error.strerror or str(error))
            return
        if self.problem is not None and not ledger.unwritten:
            self.problem = None
            ledger.kept = True
            _log.info("the usage journal can be written again")

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("the usage journal cannot be written; usage is recorded once it can", why=problem)
        self.problem = problem
        self.ledger.kept = False

    async def _rewrite(self, file: JournalFile, path: Path) -> JournalFile:
        """Compacts the file: leaves out what was acknowledged, but for the newest record of each open span.

        Returns:
            The one that is in its place.
        """
        ledger = self.ledger
        up_to, acknowledged = self._written, ledger.acknowledged
        meanwhile: list[UsageRecord] = []
        self._meanwhile = meanwhile
        kept: dict[int, UsageRecord] = {}
        async for record in in_slices([*ledger.spans.values(), *ledger.unsent.values()]):
            kept[record.sequence] = record
        unfinished = path.with_suffix(".new")
        try:
            new = await asyncio.to_thread(JournalFile, unfinished, empty=True)
        except OSError:
            self._meanwhile = None
            self._rewrite_from_bytes = 2 * self._bytes
            raise
        try:
            await asyncio.to_thread(new.append, lines.head(ledger, up_to, acknowledged))
            waiting: list[UsageRecord] = []
            async for sequence in in_slices(sorted(kept)):
                if sequence <= up_to:
                    waiting.append(kept[sequence])
                if len(waiting) >= _LINES_AT_ONCE:
                    await asyncio.to_thread(new.append, lines.records(waiting))
                    waiting.clear()
            synced_bytes = await asyncio.to_thread(new.append, lines.records(waiting))
            await asyncio.to_thread(new.sync)
            # What was made meanwhile is all there once nobody writes.
            async with self._turn:
                tail = lines.records(meanwhile) + lines.acknowledged(self._acknowledged)
                self._bytes = await asyncio.to_thread(new.append_and_rename, tail, unfinished, path)
                self._file = new
        except OSError:
            await asyncio.to_thread(_give_up, new, unfinished)
            # A full disk will not have room again at once.
            self._rewrite_from_bytes = 2 * self._bytes
            raise
        finally:
            self._meanwhile = None
        self._lines = len(kept) + len(meanwhile)
        self._rewrite_from_bytes = _REWRITE_FROM_BYTES
        self._synced_bytes = synced_bytes
        self._doubtful = True
        await asyncio.to_thread(file.close)
        await asyncio.to_thread(sync_directory, path.parent)
        return new

    def close(self) -> None:
        """Closes the file, or leaves that to the end of the process where a thread is still at it."""
        file, self._file = self._file, None
        if file is not None and not self._turn.locked():
            file.close()


def _give_up(file: JournalFile, path: Path) -> None:
    file.close()
    path.unlink(missing_ok=True)
