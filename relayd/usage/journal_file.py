"""The journal's file, which one process alone uses. All of this may wait for the disk: it belongs in a thread."""

import fcntl
import os
from pathlib import Path


class JournalFile:
    """An open file to append to.

    Args:
        path: the file; made, for its owner alone to read, where there is none.
        empty: whether nothing of what it holds is wanted.

    Raises:
        BlockingIOError: another process uses it.
        OSError: it cannot be had.
    """

    def __init__(self, path: Path, *, empty: bool = False) -> None:
        self._fd = _open_locked(path)
        self._bytes = 0
        if empty:
            # Only now that nobody else has it.
            self.cut(0)

    def cut(self, size_bytes: int) -> None:
        """Makes it that long: what is behind is damaged."""
        os.ftruncate(self._fd, size_bytes)
        self._bytes = size_bytes

    def append(self, content: bytes) -> int:
        """Writes all of it, or none.

        Returns:
            How many bytes the file has then.

        Raises:
            OSError: none was written.
        """
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, self._bytes + len(content) - len(rest)) :]
        except OSError:
            # Half a line at the end of a full disk: taken off, which needs no room.
            os.ftruncate(self._fd, self._bytes)
            raise
        self._bytes += len(content)
        return self._bytes

    def sync(self) -> None:
        """See fsync(2)."""
        os.fsync(self._fd)

    def append_and_rename(self, content: bytes, old: Path, new: Path) -> int:
        """Completes a file that takes the place of another. See `append`."""
        size_bytes = self.append(content)
        old.rename(new)
        return size_bytes

    def close(self) -> None:
        """Closes it, and lets others use it."""
        os.close(self._fd)


def _open_locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
