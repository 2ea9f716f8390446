"""A listening Unix socket that only its owner and root may use (unix(7))."""

import errno
import os
import socket
import stat
from pathlib import Path

from relayd.errors import ConfigurationError, UnavailableError
from relayd.http.tcp import BACKLOG

_LONGEST_PATH_BYTES = 107
"""`sun_path` in <linux/un.h> has 108, and the last is NUL."""
_NOT_FOR_OTHERS = 0o177


class NoPlaceError(UnavailableError):
    """No socket can be made at a path, though nobody else listens there."""


class HeldError(UnavailableError):
    """Somebody else listens at a path."""


class UnixListener:
    """Listens from when it is made. The file of a process that is gone is replaced.

    Two that start at the same moment could both take the other's file for such a one; a relay opens its UDP ports
    before, which no other relay of this configuration gets.

    Args:
        path: where.
        setting: the key of the configuration it comes from, to be named in errors.
        kept: what the predecessor listened with at this path; requests may wait in it.

    Raises:
        NoPlaceError: nothing can be made there.
        HeldError: somebody else listens there.
    """

    def __init__(self, path: Path, setting: str, kept: socket.socket | None = None) -> None:
        self.path = path
        self.socket = kept if kept is not None and _identity(path) is not None else _listen(path, setting)
        if kept is not None and kept is not self.socket:
            kept.close()  # its file was removed: nobody reaches it any more
        self._made = _identity(path)

    def close(self, *, handed_on: bool = False) -> None:
        """Ends it. The file goes too, unless it is handed on, or is another's by now."""
        self.socket.close()
        if not handed_on and self._made is not None and _identity(self.path) == self._made:
            self.path.unlink(missing_ok=True)


def check_length(path: Path, setting: str) -> None:
    """Whether a socket's path may be so long.

    Raises:
        ConfigurationError: it may not.
    """
    length = len(os.fsencode(path))
    if length > _LONGEST_PATH_BYTES:
        raise ConfigurationError(
            f"{setting}: {path} has {length} bytes, and the path of a Unix socket {_LONGEST_PATH_BYTES} at most:"
            f" name a shorter one in {setting}"
        )


def why_unreachable(path: Path) -> OSError | None:
    """Why this process cannot connect to a Unix socket; None where somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Where its queue is full, one that blocks would wait for a process that may hang.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return None
        except OSError as error:
            return error
    return None


def remove_if_dead(path: Path) -> None:
    """Takes the file of a socket away on which nobody listens any more.

    Raises:
        OSError: it cannot be told, or cannot be removed.
    """
    if _identity(path) is not None and not _is_listened_on(path):
        path.unlink(missing_ok=True)


def _listen(path: Path, setting: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_if_dead(path)
        # The mode that it is made with: one that is changed afterwards was open to others until then.
        before = os.umask(_NOT_FOR_OTHERS)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        named = f"Unix socket {path} ({setting})"
        if error.errno != errno.EADDRINUSE:
            raise NoPlaceError(
                f"{named} cannot be made: {error.strerror or error}; name another path in {setting}"
            ) from None
        if _identity(path) is None:
            raise NoPlaceError(f"{named}: a file is there; remove it, or name another path in {setting}") from None
        raise HeldError(f"{named} is held by a process that runs: `ss -lxp src {path}` shows by whom") from None
    return sock


def _is_listened_on(path: Path) -> bool:
    problem = why_unreachable(path)
    if problem is None:
        return True
    if problem.errno in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    raise problem


def _identity(path: Path) -> tuple[int, int] | None:
    """Which socket's file this is; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None
