"""The state file itself: opened and locked, believed or set aside, grown as it is needed."""

import contextlib
import fcntl
import mmap
import os
import time
from pathlib import Path

import structlog

from relayd.state import layout

NAME = "bindings.state"
SLOTS = 1 << 20
"""Most records there can be: the file is as long from the beginning, but takes room only for those in use."""
_BYTES = layout.record_at(SLOTS)
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
                os.close(self._fd)
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._create()
        except BlockingIOError:
            why = "another relayd is using it"
        except OSError as error:
            why = error.strerror or str(error)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _log.warning("no state is kept: after a restart players have to bind again", directory=str(directory), why=why)
        return _anonymous()

    def _read(self) -> mmap.mmap:
        size = os.fstat(self._fd).st_size
        if size == 0:
            return self._create()
        if size != _BYTES:
            raise _UnusableError(f"it has {size} bytes instead of {_BYTES}")
        memory = mmap.mmap(self._fd, _BYTES)
        header = memory[: layout.HEADER.size]
        if not any(header):
            # Its process ended before it wrote anything.
            return self._create()
        magic, version, record_bytes, slots, digest = layout.HEADER.unpack(header)
        if magic != layout.MAGIC:
            raise _UnusableError("it is not a state file")
        if (version, record_bytes) != (layout.VERSION, layout.RECORD_BYTES):
            raise _UnusableError(f"it is of version {version}, this relayd writes {layout.VERSION}")
        stored = memory[layout.HEADER_CHECKSUM_AT : layout.HEADER_CHECKSUM_AT + 4]
        if stored != layout.checksum(header) or slots > SLOTS:
            raise _UnusableError("its checksum is wrong")
        # One that was copied may have holes, which cannot be written to on a full disk: see `_create`.
        os.posix_fallocate(self._fd, 0, layout.record_at(slots))
        self.slots = slots
        self.fresh = False
        self.same_sockets = digest == self._digest
        return memory

    def _create(self) -> mmap.mmap:
        # What is not there yet cannot be written to on a full disk: a signal would end the process. So room is made
        # before anything is written, and only there.
        try:
            os.posix_fallocate(self._fd, 0, layout.record_at(0))
        except OSError:
            # Empty, it is no state: the next process shall not take it for a damaged one.
            os.ftruncate(self._fd, 0)
            raise
        os.ftruncate(self._fd, _BYTES)
        return mmap.mmap(self._fd, _BYTES)

    def grow(self) -> bool:
        """Makes room for more records. False, and a warning, if there is none."""
        if time.monotonic() < self._full_until or self.slots + _GROWTH > SLOTS:
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

    def is_ours(self) -> None:
        """Says that from now on records are numbered by the sockets of this process."""
        self._write_header()

    def _write_header(self) -> None:
        header = layout.HEADER.pack(layout.MAGIC, layout.VERSION, layout.RECORD_BYTES, self.slots, self._digest)
        self.memory[: len(header) + 4] = header + layout.checksum(header)

    def beat(self) -> None:
        """To be called every second: notes that somebody is there."""
        layout.HEARTBEAT.pack_into(self.memory, layout.HEARTBEAT_AT, _boot(), time.monotonic())

    def silent_seconds(self) -> float | None:
        """How long nobody was there; None if that was in another life of the host."""
        boot, beat = layout.HEARTBEAT.unpack_from(self.memory, layout.HEARTBEAT_AT)
        silent = time.monotonic() - beat
        # What has no checksum may be no number, or lie ahead.
        return silent if boot == _boot() and silent >= 0 else None

    def close(self) -> None:
        """Lets go of the file; the memory stays as long as somebody uses it."""
        if self._fd >= 0:
            # The mapping has a descriptor of its own, and the lock with it.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1


def _anonymous() -> mmap.mmap:
    return mmap.mmap(-1, _BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _boot() -> bytes:
    with contextlib.suppress(OSError, ValueError):
        return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").strip().replace("-", ""))
    return bytes(16)
