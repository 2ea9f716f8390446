"""One control plane to a database file: a second one would know nothing of the relays that the first hears."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from relayd.control_plane.errors import StoreTakenError, StoreUnusableError


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else may serve that database within the block, nor after it if the process just ends: flock(2).

    The lock stands beside the database, for SQLite has locks of its own on the file itself. It is left there: whoever
    removes it could remove one that somebody else holds by then.

    Raises:
        StoreTakenError: another process serves it.
        StoreUnusableError: there cannot be a lock.
    """
    file = _beside(database)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusableError(f"{file}: cannot be locked: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            by = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise StoreTakenError(
                f"{database} is served by another control plane, process {by}; stop that one first, or name another"
                " [api] database"
            ) from None
        except OSError as error:
            raise StoreUnusableError(f"{file}: cannot be locked: {error.strerror}") from None
        # Only told to people: on a full disk the lock holds without.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(database: Path) -> bool:
    """Whether somebody serves that database. Makes no file.

    Raises:
        PermissionError: this user may not look.
    """
    try:
        descriptor = os.open(_beside(database), os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _beside(database: Path) -> Path:
    # However the database is reached, by a link too, there is one lock.
    whole = database.resolve()
    return whole.with_name(f"{whole.name}.lock")
