"""Keeps a copy of a file up to date: `python -m relayd.state.copying FILE COPY ASIDE`, started by `copier`.

A program of its own, because of what a disk that hangs does to whoever writes to it: on a frozen file system
(fsfreeze(8), as for a snapshot) a write waits for the thaw, and neither SIGKILL nor the end of its process interrupts
it. A thread that waits there would keep its whole process from ending, and with it the sockets and locks of a relay.

It ends with its standard input, after it has brought the copy up to date once more. After each round it writes a line
to its standard output: why the copy is behind; empty where it is not.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROUND_SECONDS = 2.0
"""From the end of one round to the next."""
BLOCK_BYTES = 64 << 10
"""What is compared, and written where it differs."""
_LAYOUT_BYTES = 16
"""Magic and digest: at the start of every layout."""


class Copy:
    """The copy of a file.

    Nothing in it is believed to be what was written last, but compared: so it does not matter if somebody else wrote to
    it as well, such as the process before this one, by a write that hung until now.

    Args:
        live_fd: the file, which changes all the time.
        path: of the copy.
        aside: where a copy of another layout is moved.
    """

    def __init__(self, live_fd: int, path: Path, aside: Path) -> None:
        self._live_fd = live_fd
        self._path = path
        self._aside = aside
        self._fd = -1

    def bring_up_to_date(self) -> None:
        """One round.

        Raises:
            BlockingIOError: another process is using the copy.
            OSError: it cannot be written.
        """
        if not self._is_there():
            self.close()
            self._fd = self._open()
        size_bytes = os.fstat(self._live_fd).st_size
        if os.fstat(self._fd).st_size != size_bytes:
            os.ftruncate(self._fd, size_bytes)
        # The first block has header and heartbeat. It comes last: a copy that says how new it is has the rest as well.
        for at in sorted({*_blocks(self._live_fd), *_blocks(self._fd)}, reverse=True):
            block = os.pread(self._live_fd, BLOCK_BYTES, at)
            if os.pread(self._fd, BLOCK_BYTES, at) != block:
                _write(self._fd, block, at)

    def close(self) -> None:
        """Gives it up to others."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _is_there(self) -> bool:
        """Whether the file that is open is the one at its path: somebody may have removed it."""
        if self._fd < 0:
            return False
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        # To make one that is there waits as well where the file system is frozen.
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(parents=True)
        fd = locked(self._path)
        start = os.pread(fd, _LAYOUT_BYTES, 0)
        if not any(start) or start == os.pread(self._live_fd, _LAYOUT_BYTES, 0):
            return fd
        try:
            self._path.rename(self._aside)
        finally:
            os.close(fd)
        return locked(self._path)


def locked(path: Path) -> int:
    """Opens a file, which is made if it is not there, for one process alone.

    Raises:
        BlockingIOError: another one is using it.
        OSError: it cannot be opened, or made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _blocks(fd: int) -> Iterator[int]:
    """Where the blocks begin that are not holes (lseek(2))."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        yield from range(start - start % BLOCK_BYTES, end, BLOCK_BYTES)


def _write(fd: int, block: bytes, at: int) -> None:
    rest = memoryview(block)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written


def main() -> None:
    """Runs until standard input ends."""
    # They are meant for the relay, which says itself when this is to end: after its last counts.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    live, path, aside = map(Path, sys.argv[1:])
    copy = Copy(os.open(live, os.O_RDONLY | os.O_CLOEXEC), path, aside)
    ended = False
    while True:
        problem = ""
        try:
            copy.bring_up_to_date()
        except BlockingIOError:
            problem = "another process holds it, such as the one that copied for the relay before"
        except OSError as error:
            problem = error.strerror or str(error)
        with contextlib.suppress(OSError):  # nobody is there to read it: the relay was killed
            os.write(sys.stdout.fileno(), f"{problem}\n".encode())
        if ended:
            return
        ended = bool(select.select([sys.stdin], [], [], ROUND_SECONDS)[0])


if __name__ == "__main__":
    main()
