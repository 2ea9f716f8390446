"""The last good table on disk, so that a relay that starts while its control plane is away still knows its games.

A session file like any other, with the state it was read at; only its owner may read it, since it holds tokens.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from relayd.core.desired import SessionSpec, Snapshot
from relayd.core.session_file import SessionFileError, read_sessions
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.event_loop.threads import within
from relayd.session_source.control_plane.link import MOST_REVISION, Version

_NAME = "last-good-sessions.json"
_LINES_AT_ONCE = 500
_LOAD_SECONDS = 10.0
"""A disk that hangs: the control plane is followed without."""


class LastGoodError(Exception):
    """It could not be read or written; the text says why."""


class LastGood:
    """The file in the state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / _NAME

    async def load(self) -> tuple[Snapshot, Version | None] | None:
        """The sessions and the state they were read at; None if there are none on disk.

        Raises:
            LastGoodError: there is a file, and it cannot be used.
        """
        snapshot = Snapshot()
        try:
            text = await within(_LOAD_SECONDS, self.path.read_text, encoding="utf-8")
            with many_new_objects():
                async for _ in in_slices(read_sessions(text, snapshot)):
                    pass
        except FileNotFoundError:
            return None
        except TimeoutError:
            raise LastGoodError(f"{self.path}: no answer within {_LOAD_SECONDS:g} s") from None
        except (OSError, UnicodeDecodeError, SessionFileError) as error:
            raise LastGoodError(f"{self.path}: {error}") from None
        return snapshot, _version_of(text)

    async def save(self, sessions: Iterable[SessionSpec], version: Version | None) -> None:
        """Replaces the file in one step: after a crash there is the old one or the new one.

        Raises:
            LastGoodError: it could not be written; the old one is still there.
        """
        unfinished = self.path.with_suffix(".new")
        try:
            fd = await asyncio.to_thread(_create, unfinished)
            try:
                async for content in _contents(sessions, version):
                    await asyncio.to_thread(_write, fd, content)
                await asyncio.to_thread(os.fsync, fd)
            except OSError:
                await asyncio.to_thread(os.close, fd)
                raise
            # Left open when cancelled: a thread may still be writing to it, and its number may soon be another file's.
            await asyncio.to_thread(os.close, fd)
            await asyncio.to_thread(unfinished.replace, self.path)
        except OSError as error:
            raise LastGoodError(f"{self.path}: cannot be written: {error.strerror}") from None


async def _contents(sessions: Iterable[SessionSpec], version: Version | None) -> AsyncIterator[bytes]:
    """All of the file, bit by bit."""
    head = {"epoch": version.epoch, "revision": version.revision} if version else {}
    lines = [json.dumps(head)[:-1] + (", " if head else "") + '"sessions": [']
    separator = ""
    async for spec in in_slices(sessions):
        lines.append(separator + json.dumps(as_relay_session(spec)))
        separator = ","
        if len(lines) >= _LINES_AT_ONCE:
            yield ("\n".join(lines) + "\n").encode()
            lines.clear()
    lines.append("]}\n")
    yield "\n".join(lines).encode()


def _create(path: Path) -> int:
    """A new file that only its owner may read, whatever still writes to the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def as_relay_session(spec: SessionSpec) -> dict[str, object]:
    """As session files and the API have it."""
    return {
        "session_id": spec.session_id,
        "authorization_token": spec.token,
        "session_users": [{"authorization_token": user.token, "ip_address": user.ip_address} for user in spec.users],
    }


def _version_of(text: str) -> Version | None:
    """The state named in the file's first line, which `save` writes before the sessions."""
    try:
        head = json.loads(text.partition("\n")[0] + "]}")
        epoch, revision = head["epoch"], head["revision"]
    except (ValueError, KeyError, TypeError):
        return None
    usable = isinstance(epoch, str) and epoch and isinstance(revision, int) and 0 <= revision <= MOST_REVISION
    return Version(epoch, revision) if usable else None
