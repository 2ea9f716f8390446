"""Files that others write while relayd runs: whether they have changed, and what they hold."""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Stamp(NamedTuple):
    """By which a file is known to be the one that was read.

    Whoever writes can set size and time of modification to what they were, as rsync(1) and `cp --preserve` do; the time
    of the change is the kernel's (inode(7), ctime).
    """

    changed_ns: int
    modified_ns: int
    size_bytes: int
    inode: int


def stamp(path: Path) -> Stamp | None:
    """The stamp of what is there now; None where there is nothing to be seen."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def read(path: Path) -> tuple[Stamp, bytes]:
    """The stamp of a regular file, and all that it holds.

    May hang, as for a network file system that is away: see `event_loop.threads`.

    Raises:
        OSError: it cannot be read, or is no regular file: to wait for who writes into a FIFO could take forever.
    """
    _refuse_unless_regular(path.stat())
    # It may have been replaced since: to open a FIFO or a terminal line must not wait either (open(2)).
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        _refuse_unless_regular(status)
        return _stamp(status), file.read()


def read_if_changed(path: Path, seen: Stamp | None) -> tuple[Stamp, bytes | None]:
    """As `read`, with None for what it holds if the stamp is the one that was seen.

    Raises:
        OSError: see `read`.
    """
    if seen is not None and _stamp(path.stat()) == seen:
        return seen, None
    return read(path)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino)


def _refuse_unless_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, and has to be a regular file")
