"""The journal of usage records: an append-only file, compacted once most of its records were acknowledged."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import structlog

from relayd.core.usage import Ledger, UsageRecord
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.usage import lines

NAME = "usage.journal"

_REWRITE_FROM_BYTES = 4 << 20
_LINES_AT_ONCE = 500
_MANY_BYTES = 1 << 20

_log = structlog.get_logger()


class Journal:
    """Keeps a ledger over crashes of the process and, from the next `sync` on, of the host.

    What cannot be written stays in memory and is tried again with the next `write`.

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
        self._fd = -1
        self._bytes = 0
        """Length of the file, but for what was only half written."""
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
        self._doubtful = False
        """Whether a sync failed: the kernel may have lost some of it, and report success the next time (fsync(2))."""
        self.ledger = self._open(self._path) if self._path is not None else Ledger(new_stream())

    # Opening ------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> Ledger:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = _open_locked(path)
            content = path.read_bytes()
            if content:
                try:
                    return self._go_on(content)
                except lines.NoJournalError as error:
                    aside = path.with_name(f"{NAME}.set-aside")
                    path.rename(aside)
                    _log.warning("the usage journal is not used: a new one begins", why=str(error), kept_as=str(aside))
                    self.close()
                    self._fd = _open_locked(path)
            return self._begin(path.parent)
        except BlockingIOError:
            why = "another relayd is using it"
        except OSError as error:
            why = error.strerror or str(error)
        self.close()
        _log.warning("usage records are not kept: a crash loses those that wait", journal=str(path), why=why)
        ledger = Ledger(self._new_stream())
        ledger.kept = False
        return ledger

    def _go_on(self, content: bytes) -> Ledger:
        # The collector would visit the records again and again while they become more.
        with many_new_objects() if len(content) > _MANY_BYTES else contextlib.nullcontext():
            replayed = lines.Replayed(content, self._new_stream)
        ledger, self.stopped = replayed.ledger, replayed.stopped
        if replayed.damaged:
            _log.warning("usage journal: damaged lines are left out", lines=replayed.damaged)
        os.ftruncate(self._fd, replayed.bytes)
        self._bytes, self._lines = replayed.bytes, replayed.records
        self._written, self._acknowledged = ledger.sequence, ledger.acknowledged
        if replayed.headless:
            self._append(lines.head(ledger, ledger.sequence, ledger.acknowledged))
        return ledger

    def _begin(self, folder: Path) -> Ledger:
        ledger = Ledger(self._new_stream())
        self._append(lines.head(ledger, 0, 0))
        sync_directory(folder)
        return ledger

    # Writing ------------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """Puts into the file what is new in the ledger, some of it at least: no crash of the process loses it then.

        Returns:
            Whether it can be written.
        """
        ledger = self.ledger
        if self._fd < 0:
            ledger.unwritten.clear()
            self._written = self.durable = ledger.sequence
            return True
        new = list(islice(ledger.unwritten.values(), _LINES_AT_ONCE))
        content = lines.records(new)
        if ledger.acknowledged > self._acknowledged:
            content += lines.acknowledged(ledger.acknowledged)
        try:
            self._append(content)
        except OSError as error:
            self._complain(error)
            return False
        for record in new:
            del ledger.unwritten[record.sequence]
            self._written = record.sequence
        self._acknowledged = ledger.acknowledged
        self._lines += len(new)
        if self._meanwhile is not None:
            self._meanwhile += new
        return True

    async def write_all(self) -> bool:
        """Puts all of it into the file, bit by bit.

        Returns:
            Whether it can be written.
        """
        async for _ in in_slices(iter(self.write, False)):
            if not self.ledger.unwritten:
                return True
        return False

    def _append(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, self._bytes + len(content) - len(rest)) :]
        except OSError:
            # Half a line at the end of a full disk: taken off, which needs no room.
            os.ftruncate(self._fd, self._bytes)
            raise
        self._bytes += len(content)

    async def sync(self) -> None:
        """Syncs the file to disk, compacted first where that is worth it."""
        if self._path is None or self._fd < 0 or self._bytes == self._synced_bytes:
            return
        ledger = self.ledger
        try:
            mostly_over = self._lines > 2 * max(len(ledger.spans), len(ledger.unsent))
            worth_it = self._doubtful or (self._bytes > self._rewrite_from_bytes and mostly_over)
            # Not while a record waits to be written: earlier ones, which are in the file, may have been merged into it.
            if worth_it and not ledger.unwritten:
                await self._rewrite(self._path)
            elif self._doubtful:
                return
            written, size = self._written, self._bytes
            self._doubtful = True
            await asyncio.to_thread(os.fsync, self._fd)
            self._doubtful = False
            self._synced_bytes, self.durable = size, written
        except OSError as error:
            self._complain(error)
            return
        if self.problem is not None and not ledger.unwritten:
            self.problem = None
            ledger.kept = True
            _log.info("the usage journal can be written again")

    def _complain(self, error: OSError) -> None:
        problem = error.strerror or str(error)
        if problem != self.problem:
            _log.warning("the usage journal cannot be written; usage is recorded once it can", why=problem)
        self.problem = problem
        self.ledger.kept = False

    async def _rewrite(self, path: Path) -> None:
        """Compacts the file: leaves out what was acknowledged, but for the newest record of each open span."""
        ledger = self.ledger
        up_to, acknowledged = self._written, ledger.acknowledged
        meanwhile: list[UsageRecord] = []
        self._meanwhile = meanwhile
        kept: dict[int, UsageRecord] = {}
        async for record in in_slices([*ledger.spans.values(), *ledger.unsent.values()]):
            kept[record.sequence] = record
        unfinished = path.with_suffix(".new")
        try:
            fd = await asyncio.to_thread(_open_locked, unfinished, os.O_TRUNC)
        except OSError:
            self._meanwhile = None
            self._rewrite_from_bytes = 2 * self._bytes
            raise
        try:
            size = await _write_all(fd, lines.head(ledger, up_to, acknowledged))
            waiting: list[UsageRecord] = []
            async for sequence in in_slices(sorted(kept)):
                if sequence <= up_to:
                    waiting.append(kept[sequence])
                if len(waiting) >= _LINES_AT_ONCE:
                    size += await _write_all(fd, lines.records(waiting))
                    waiting.clear()
            size += await _write_all(fd, lines.records(waiting))
            await asyncio.to_thread(os.fsync, fd)
            # From here on nothing else runs, so that what was made meanwhile is all there.
            tail = lines.records(meanwhile) + lines.acknowledged(self._acknowledged)
            if os.write(fd, tail) != len(tail):
                raise OSError(0, "no room for all of it")
            unfinished.rename(path)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                # Left open when cancelled: a thread may still be writing to it, and a closed number may soon be another
                # file's. The process ends then.
                os.close(fd)
            unfinished.unlink(missing_ok=True)
            # A full disk will not have room again at once.
            self._rewrite_from_bytes = 2 * self._bytes
            raise
        finally:
            self._meanwhile = None
        os.close(self._fd)
        self._fd = fd
        self._bytes, self._lines = size + len(tail), len(kept) + len(meanwhile)
        self._rewrite_from_bytes = _REWRITE_FROM_BYTES
        self._synced_bytes = size
        self._doubtful = True
        await asyncio.to_thread(sync_directory, path.parent)

    def close(self) -> None:
        """Closes the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _open_locked(path: Path, flags: int = 0) -> int:
    """The file, which only its owner may read, and nobody else uses.

    Raises:
        BlockingIOError: somebody else does.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino != path.stat().st_ino:
            # Its owner replaced it meanwhile, and released this one.
            raise BlockingIOError
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_directory(directory: Path) -> None:
    """Syncs a directory: without it a crash of the host may bring the file back that was replaced."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _write_all(fd: int, content: bytes) -> int:
    """Writes at the end of a file. Returns how many bytes."""
    written = await asyncio.to_thread(os.write, fd, content)
    if written != len(content):
        raise OSError(0, "no room for all of it")
    return written
