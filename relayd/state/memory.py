"""The state file itself: opened and locked, used or set aside, grown as it is needed."""

import contextlib
import fcntl
import mmap
import os
import time
from pathlib import Path

import structlog

from relayd.state import layout

NAME = "bindings.state"
_GROWTH = 8192
"""Records for which room is made at a time: 1 MiB."""
_FULL_SECONDS = 60.0
"""Between two looks for room on a disk that was full."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = structlog.get_logger()


class _UnusableError(Exception):
    """A file is there and not what it should be; the text says why."""


class StateMemory:
    """Memory in the layout of the state file; with a file behind it, it outlives the process.

    Args:
        directory: where the file is, or None for memory alone.
        bind_digest: tells sockets bound elsewhere apart: what they are numbered by differs then.
    """

    def __init__(self, directory: Path | None, bind_digest: int) -> None:
        self.same_sockets = False
        """Whether the file is of a process with the same sockets."""
        self.fresh = True
        """Whether there was no file to go on from."""
        self.slots = 0
        """Records there is room for now."""
        self._digest = bind_digest
        self._fd = -1
        self._full_until = 0.0
        """When to look for room again, on the clock of time.monotonic."""
        self.memory = self._of_file(directory) if directory is not None else _anonymous()
        if self.fresh:
            self.grow()

    def _of_file(self, directory: Path) -> mmap.mmap:
        path = directory / NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                return self._read()
            except _UnusableError as error:
                aside = path.with_name(f"{NAME}.set-aside")
                path.rename(aside)
                _log.warning(
                    "the state of the relay before is not used: players bind again", why=str(error), kept_as=str(aside)
                )
                self._close_file()
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._create()
        except BlockingIOError:
            why = "another relayd is using it"
        except OSError as error:
            why = error.strerror or str(error)
        self._close_file()
        _log.warning("no state is kept: after a restart players have to bind again", directory=str(directory), why=why)
        return _anonymous()

    def _read(self) -> mmap.mmap:
        size_bytes = os.fstat(self._fd).st_size
        start = os.pread(self._fd, layout.HEADER_BYTES, 0)
        # All zero: its process ended before it wrote the header.
        if size_bytes in (0, layout.FILE_BYTES) and not any(start):
            return self._create()
        why = layout.misfit(start, size_bytes)
        if why:
            raise _UnusableError(why)
        _, _, bind_digest, slots = layout.HEADER.unpack_from(start)
        # One that was copied may have holes, which cannot be written to on a full disk: see `_create`.
        os.posix_fallocate(self._fd, 0, layout.record_at(slots))
        memory = mmap.mmap(self._fd, layout.FILE_BYTES)
        self.slots = slots
        self.fresh = False
        self.same_sockets = bind_digest == self._digest
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
        layout.HEARTBEAT.pack_into(self.memory, layout.HEARTBEAT_AT, _boot(), time.monotonic())

    def silent_seconds(self) -> float | None:
        """Seconds since a relay last wrote here; None if the host was booted since."""
        boot, beat = layout.HEARTBEAT.unpack_from(self.memory, layout.HEARTBEAT_AT)
        silent = time.monotonic() - beat
        # It has no checksum: it may be NaN, or in the future.
        return silent if boot == _boot() and silent >= 0 else None

    def close(self) -> None:
        """Closes the file; the memory stays as long as it is in use."""
        if self._fd >= 0:
            # The mapping has a descriptor of its own, and the lock with it.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._close_file()

    def _close_file(self) -> None:
        # Its number may be another file's at once: no longer known here, whatever comes next.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _anonymous() -> mmap.mmap:
    return mmap.mmap(-1, layout.FILE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _boot() -> bytes:
    with contextlib.suppress(OSError, ValueError):
        return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").strip().replace("-", ""))
    return bytes(16)
