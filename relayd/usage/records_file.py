"""Usage records in a file, for an operator to take away where no control plane takes them."""

import asyncio
import json
import os
from pathlib import Path

import structlog

from relayd.core.usage import UsageBatch, UsageDelayedError
from relayd.usage.journal_file import sync_directory

NAME = "usage.jsonl"
MOST_BYTES = 64 << 20
"""A longer file is rotated, over the one that was rotated before."""

_PAUSE_SECONDS = 10.0
_LOOK_BACK_BYTES = 64 << 10
"""Far more than a line has."""

_log = structlog.get_logger()


class UsageFile:
    """A line of JSON for each record. The file may be moved away at any time: each batch opens it again.

    Args:
        directory: where the file is.
        relay_id: stands in every record.
    """

    def __init__(self, directory: Path, relay_id: str) -> None:
        self._path = directory / NAME
        self._relay_id = relay_id

    async def take(self, batch: UsageBatch) -> None:
        """See `UsageTaker`."""
        content = b"".join(
            json.dumps({"relay": self._relay_id, "stream": batch.stream, **record.fields()}).encode() + b"\n"
            for record in batch.records
        )
        try:
            await asyncio.to_thread(self._append, content)
        except OSError as error:
            raise UsageDelayedError(f"{self._path}: {error.strerror}", _PAUSE_SECONDS) from None

    def _append(self, content: bytes) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            size = _whole_lines(fd)
            os.ftruncate(fd, size)
            if os.write(fd, content) != len(content):
                os.ftruncate(fd, size)
                raise OSError(0, "no room for all of it")
            os.fsync(fd)
        finally:
            os.close(fd)
        if not size:
            sync_directory(self._path.parent)
        if size + len(content) > MOST_BYTES:
            before = self._path.with_name(f"{NAME}.1")
            if before.exists():
                _log.warning("usage records that nobody took away are overwritten", file=str(before))
            try:
                self._path.rename(before)
            except OSError as error:
                # The records are on the disk: an error would bring them again.
                _log.warning("usage records cannot be moved away", file=str(before), why=error.strerror)


def _whole_lines(fd: int) -> int:
    """How many bytes of a file are whole lines: a relay that was killed may have left half a line."""
    end = os.fstat(fd).st_size
    while end and os.pread(fd, 1, end - 1) != b"\n":
        last = os.pread(fd, _LOOK_BACK_BYTES, max(0, end - _LOOK_BACK_BYTES))[:end]
        end = max(0, end - _LOOK_BACK_BYTES) + last.rfind(b"\n") + 1
    return end
