"""The copy of the state that a relay may begin with, where it has the state itself in memory (see `copying`)."""

import fcntl
import io
import os
import time
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from relayd.state import layout

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_ID_VARIABLE = "BOOT_ID"
"""The units set it: they hide /proc/sys (systemd.exec(5), ProcSubset)."""
_NEVER_SECONDS = -1.0
"""In place of a heartbeat of another boot."""
_PIECE_BYTES = 1 << 20
HEAD_BYTES = layout.HEARTBEAT_AT + layout.HEARTBEAT.size
"""Header and heartbeat."""


class Head(NamedTuple):
    """What the beginning of a state file says."""

    misfit: str
    """Why it cannot be used; empty where it can."""
    empty: bool
    """Whether nothing was written to it so far."""
    bind_digest: int
    """Of the addresses that its sockets had."""
    slots: int
    """Records there is room for."""
    beat_seconds: float | None
    """When a relay last wrote there, on the clock of time.monotonic; None if that was before the host was booted."""


def head_of(fd: int, *, in_memory: bool) -> Head:
    """Reads the beginning of a file, which need not be a state file.

    Args:
        fd: the file.
        in_memory: see `beat_of`.

    Raises:
        OSError: it cannot be read.
    """
    size_bytes = os.fstat(fd).st_size
    head = os.pread(fd, HEAD_BYTES, 0)
    start = head[: layout.HEADER_BYTES]
    # All zero: its process ended before it wrote the header.
    empty = size_bytes in (0, layout.FILE_BYTES) and not any(start)
    misfit = layout.misfit(start, size_bytes)
    if misfit:
        return Head(misfit, empty, 0, 0, None)
    _, _, bind_digest, slots = layout.HEADER.unpack_from(start)
    return Head("", empty, bind_digest, slots, beat_of(head, in_memory=in_memory))


def beat_of(head: bytes, *, in_memory: bool) -> float | None:
    """When a relay last wrote to a file that begins like this, if that was on this boot.

    Args:
        head: the beginning of the file.
        in_memory: whether it is of this boot where nobody knows which that is: memory does not outlive it, a disk does.
    """
    boot, beat = layout.HEARTBEAT.unpack_from(head, layout.HEARTBEAT_AT)
    now_boot = this_boot()
    same = boot == now_boot if any(boot) and any(now_boot) else in_memory
    # It has no checksum: it may be NaN, or in the future.
    return beat if same and 0 <= beat <= time.monotonic() else None


def is_better(copy: Head, live: Head) -> bool:
    """Whether to begin with the copy: which of the two was written later, as far as can be told."""
    if copy.misfit or live.misfit:
        return not copy.misfit
    if live.beat_seconds is None:
        return True
    return copy.beat_seconds is not None and copy.beat_seconds > live.beat_seconds


def open_unless_used(path: Path) -> tuple[io.FileIO, Head] | None:
    """Opens a copy for reading; None where there is none, or another process is using it.

    Nothing is written: that would wait where the file system is frozen.

    Raises:
        OSError: it cannot be read.
    """
    try:
        file = io.FileIO(path)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return file, head_of(file.fileno(), in_memory=False)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise


def bring_in(copy_fd: int, live_fd: int, copy: Head) -> None:
    """Makes the live file what the copy is.

    Args:
        copy_fd: the copy.
        live_fd: the state file, which may hold anything.
        copy: the beginning of the copy.

    Raises:
        OSError: there is no room; the live file is empty then.
    """
    size_bytes = layout.record_at(copy.slots)
    os.ftruncate(live_fd, 0)
    try:
        os.posix_fallocate(live_fd, 0, size_bytes)
        # The header last: a process that ends in between leaves a file that counts as empty.
        for at in reversed(range(0, size_bytes, _PIECE_BYTES)):
            piece = bytearray(os.pread(copy_fd, min(_PIECE_BYTES, size_bytes - at), at))
            if at == 0 and copy.beat_seconds is None:
                # In memory it would count as one of this boot.
                layout.HEARTBEAT.pack_into(piece, layout.HEARTBEAT_AT, this_boot(), _NEVER_SECONDS)
            os.pwrite(live_fd, piece, at)
        os.ftruncate(live_fd, layout.FILE_BYTES)
    except OSError:
        os.ftruncate(live_fd, 0)
        raise


def this_boot() -> bytes:
    """Which boot of the host this is; zero where nobody says."""
    try:
        text = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        text = os.environ.get(_BOOT_ID_VARIABLE, "")
    try:
        return UUID(text).bytes
    except ValueError:
        return bytes(16)
