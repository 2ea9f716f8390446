"""Disks as they can be."""

import errno
import os
from pathlib import Path

_open = os.open


def no_new_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
    """In the place of `os.open`, on a disk that has no room for the name of another file."""
    if flags & os.O_CREAT and not os.path.lexists(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _open(path, flags, mode)
