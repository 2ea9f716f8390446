"""The state file itself: opened and locked, used or set aside, grown as it is needed."""

import contextlib
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import NamedTuple

import structlog

from relayd.state import kept_copy, layout
from relayd.state.copying import locked

NAME = "bindings.state"
_GROWTH = 8192
"""Records for which room is made at a time: 1 MiB."""
_FULL_SECONDS = 60.0
"""Between two looks for room on a disk that was full."""

_log = structlog.get_logger()


class _UnusableError(Exception):
    """A file is there and not what it should be; the text says why."""


class Copies(NamedTuple):
    """What is to be copied, and where to."""

    live: Path
    copy: Path
    aside: Path
    """Where a copy of another layout is moved."""


class StateMemory:
    """Memory in the layout of the state file; with a file behind it, it outlives the process.

    A store to a file on a disk waits while its file system is frozen, and the event loop with it. So where there is a
    place in memory that outlives the process, the file is there, and in the directory is a copy: see `copies`.

    Args:
        directory: where the file is, or None for memory alone.
        bind_digest: tells sockets bound elsewhere apart: what they are numbered by differs then.
        in_memory: a directory of a file system in memory, which is there until the host or the service is stopped.
    """

    def __init__(self, directory: Path | None, bind_digest: int, in_memory: Path | None = None) -> None:
        self.same_sockets = False
        """Whether the file is of a process with the same sockets."""
        self.fresh = True
        """Whether there was no file to go on from."""
        self.slots = 0
        """Records there is room for now."""
        self._digest = bind_digest
        self._fd = -1
        self._directory_fd = -1
        self._in_memory = in_memory is not None
        self._full_until = 0.0
        """When to look for room again, on the clock of time.monotonic."""
        self.copies: Copies | None = None
        """What is to be copied, from now on."""
        self.memory = self._of_file(directory, in_memory) if directory is not None else _anonymous()
        if self.fresh:
            self.grow()

    def _of_file(self, directory: Path, in_memory: Path | None) -> mmap.mmap:
        place = in_memory if in_memory is not None else directory
        path = place / NAME
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._lock_directory(directory)
            self._fd = locked(path)
            # Somebody may have named the same folder twice: a file is no copy of itself.
            if in_memory is not None and not _is_same(path, directory / NAME):
                self._begin_with_the_better_of(directory / NAME)
                self.copies = Copies(path, directory / NAME, _aside(directory / NAME))
            try:
                return self._read()
            except _UnusableError as error:
                aside = _aside(path)
                path.rename(aside)
                _warn_unused(str(error), aside)
                self._close_file()
                self._fd = locked(path)
                return self._create()
        except BlockingIOError:
            why = "another relayd is using it"
        except OSError as error:
            why = error.strerror or str(error)
        self.copies = None
        self._close_file()
        self._unlock_directory()
        _log.warning("no state is kept: after a restart players have to bind again", directory=str(place), why=why)
        return _anonymous()

    def _lock_directory(self, directory: Path) -> None:
        """One relay for a directory, wherever each has its file.

        Raises:
            BlockingIOError: there is one already.
        """
        # It need not be there yet, and a network file system may have locks for files alone.
        with contextlib.suppress(OSError):
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._directory_fd < 0:
            return
        try:
            fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._unlock_directory()
            if isinstance(error, BlockingIOError):
                raise

    def _begin_with_the_better_of(self, copy: Path) -> None:
        """Makes the file, which is open, what the copy is if that was written later.

        Raises:
            OSError: there is no room for it.
        """
        try:
            found = kept_copy.open_unless_used(copy)
        except OSError as error:
            _log.warning("the copy of the state cannot be read", file=str(copy), why=error.strerror)
            return
        if found is None:
            return
        file, kept = found
        with file:
            at_hand = kept_copy.head_of(self._fd, in_memory=True)
            if kept_copy.is_better(kept, at_hand):
                kept_copy.bring_in(file.fileno(), self._fd, kept)
            elif at_hand.empty and not kept.empty:
                _warn_unused(kept.misfit, _aside(copy))

    def _read(self) -> mmap.mmap:
        head = kept_copy.head_of(self._fd, in_memory=self._in_memory)
        if head.empty:
            return self._create()
        if head.misfit:
            raise _UnusableError(head.misfit)
        # One that was copied may have holes, which cannot be written to on a full disk: see `_create`.
        os.posix_fallocate(self._fd, 0, layout.record_at(head.slots))
        memory = mmap.mmap(self._fd, layout.FILE_BYTES)
        self.slots = head.slots
        self.fresh = False
        self.same_sockets = head.bind_digest == self._digest
        return memory

    def _create(self) -> mmap.mmap:
        # What is not there yet cannot be written to on a full disk: a signal would end the process. So room is made
        # before anything is written, and only there.
        try:
            os.posix_fallocate(self._fd, 0, layout.record_at(0))
        except OSError:
            # Empty again, or the next process would take it for a damaged one.
            os.ftruncate(self._fd, 0)
            raise
        # As long as it will ever be, but it takes room only for those records that are in use.
        os.ftruncate(self._fd, layout.FILE_BYTES)
        return mmap.mmap(self._fd, layout.FILE_BYTES)

    def grow(self) -> bool:
        """Makes room for more records. False, and a warning, if there is none."""
        if time.monotonic() < self._full_until or self.slots + _GROWTH > layout.SLOTS:
            return False
        try:
            if self._fd >= 0:
                os.posix_fallocate(self._fd, layout.record_at(self.slots), _GROWTH * layout.RECORD_BYTES)
        except OSError as error:
            self._full_until = time.monotonic() + _FULL_SECONDS
            _log.warning("no room for more state: new players are served slower, and not kept", why=error.strerror)
            return False
        self.slots += _GROWTH
        self._write_header()
        return True

    def take_over(self) -> None:
        """Writes into the header that records are numbered by the sockets of this process from now on."""
        self._write_header()

    def _write_header(self) -> None:
        header = layout.HEADER.pack(layout.MAGIC, layout.DIGEST, self._digest, self.slots)
        self.memory[: len(header) + 4] = header + layout.checksum(header)

    def beat(self) -> None:
        """To be called every second: notes that a relay is running."""
        layout.HEARTBEAT.pack_into(self.memory, layout.HEARTBEAT_AT, kept_copy.this_boot(), time.monotonic())

    def silent_seconds(self) -> float | None:
        """Seconds since a relay last wrote here; None if the host was booted since, or may have been."""
        beat = kept_copy.beat_of(self.memory[: kept_copy.HEAD_BYTES], in_memory=self._in_memory)
        return None if beat is None else time.monotonic() - beat

    def close(self) -> None:
        """Closes the file; the memory stays as long as it is in use."""
        if self._fd >= 0:
            # The mapping has a descriptor of its own, and the lock with it.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._close_file()
        self._unlock_directory()

    def _close_file(self) -> None:
        # Its number may be another file's at once: no longer known here, whatever comes next.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _unlock_directory(self) -> None:
        fd, self._directory_fd = self._directory_fd, -1
        if fd >= 0:
            os.close(fd)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # the other is not there, or not to be looked at
        return False


def _aside(path: Path) -> Path:
    return path.with_name(f"{NAME}.set-aside")


def _warn_unused(why: str, kept_as: Path) -> None:
    _log.warning("the state of the relay before is not used: players bind again", why=why, kept_as=str(kept_as))


def _anonymous() -> mmap.mmap:
    return mmap.mmap(-1, layout.FILE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
