"""The last good table on disk, so that a relay that starts while its control plane is away still knows its games.

A session file like any other, with the state it was read at; only its owner may read it, since it holds tokens.
"""

import asyncio
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from relayd.core.desired import SessionSpec, Snapshot
from relayd.core.session_file import SessionFileError, read_sessions
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.session_source.control_plane.link import MOST_REVISION, Version

_NAME = "last-good-sessions.json"
_LINES_AT_ONCE = 500


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
            text = await asyncio.to_thread(self.path.read_text, encoding="utf-8")
            with many_new_objects():
                async for _ in in_slices(read_sessions(text, snapshot)):
                    pass
        except FileNotFoundError:
            return None
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
            file = await asyncio.to_thread(_create, unfinished)
            with file:
                await self._write(file, sessions, version)
            await asyncio.to_thread(unfinished.replace, self.path)
        except OSError as error:
            raise LastGoodError(f"{self.path}: cannot be written: {error.strerror}") from None

    async def _write(self, file: TextIO, sessions: Iterable[SessionSpec], version: Version | None) -> None:
        head = {"epoch": version.epoch, "revision": version.revision} if version else {}
        lines = [json.dumps(head)[:-1] + (", " if head else "") + '"sessions": [']
        separator = ""
        async for spec in in_slices(sessions):
            lines.append(separator + json.dumps(_as_relay_session(spec)))
            separator = ","
            if len(lines) >= _LINES_AT_ONCE:
                await asyncio.to_thread(file.write, "\n".join(lines) + "\n")
                lines.clear()
        lines.append("]}\n")
        await asyncio.to_thread(file.write, "\n".join(lines))
        await asyncio.to_thread(_flush, file)


def _create(path: Path) -> TextIO:
    """A new file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")


def _flush(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _as_relay_session(spec: SessionSpec) -> dict[str, object]:
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
