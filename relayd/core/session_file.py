"""A session file's text to sessions: ``{"sessions": [RelaySession, …]}``, also as the REST API's list answers it.

Parsed session by session, so that a large file is read in slices and each mistake is told with its line and field.
"""

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import TypeVar

from pydantic import ValidationError

from relayd.core.desired import InvalidSessionsError, Snapshot
from relayd.core.relay_session import RelaySession

T = TypeVar("T")

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class SessionFileError(ValueError):
    """The text is no valid session file; the message is ``LINE: field: what is wrong``."""


def read_sessions(text: str, snapshot: Snapshot) -> Iterator[None]:
    """Adds the sessions of a file to a snapshot and pauses after each. Sessions not ready yet are left out.

    Raises:
        SessionFileError: the first mistake found; the snapshot is then worth nothing.
    """
    try:
        for number, (value, start) in enumerate(_elements_of_sessions(_Cursor(text))):
            try:
                _add(value, snapshot)
            except ValidationError as error:
                first = error.errors()[0]
                given = first["input"]
                shown = f" (got {given!r})" if isinstance(given, str | int | float) and _shows(first["loc"]) else ""
                reason = first["msg"].removeprefix("Value error, ") + shown
                raise _mistake(text, start, number, first["loc"], reason) from None
            except InvalidSessionsError as error:
                raise _mistake(text, start, number, (), str(error)) from None
            yield
    except json.JSONDecodeError as error:
        raise SessionFileError(f"{error.lineno}: not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise SessionFileError("1: not a session file: nested too deeply") from None


def _shows(path: tuple[int | str, ...]) -> bool:
    """Whether what stands there may be shown: no token, nor what may be one in a wrong place."""
    return bool(path) and isinstance(path[-1], str) and path[-1] not in ("authorization_token", "session_users")


def _add(value: object, snapshot: Snapshot) -> None:
    session = RelaySession.model_validate(value)
    spec = session.spec()
    if spec is not None:
        snapshot.add(spec)
        if "session_users" not in session.model_fields_set:
            raise InvalidSessionsError(f"session {session.session_id} has no session_users; nobody could play")
    elif session.ready:
        raise InvalidSessionsError(
            f'session {session.session_id} has no authorization_token; give it one, or say "ready": false'
        )


def _elements_of_sessions(cursor: "_Cursor") -> Iterator[tuple[object, int]]:
    """Each element of the top-level array "sessions", decoded, with its offset."""
    found = False
    if not cursor.text.strip():
        raise SessionFileError('1: the file is empty; a session file is {"sessions": [ … ]}')
    for key in cursor.members():
        if key != "sessions":
            continue
        found = True
        if cursor.text[cursor.at : cursor.at + 1] != "[":
            raise SessionFileError(f"{cursor.line()}: sessions: should be an array of sessions")
        for _ in cursor.items():
            start = cursor.at
            yield cursor.value(), start
    cursor.skip_space()
    if cursor.at != len(cursor.text):
        raise json.JSONDecodeError("Extra data", cursor.text, cursor.at)
    if not found:
        raise SessionFileError('1: sessions: missing; a session file is {"sessions": [ … ]}')


def _mistake(text: str, start: int, number: int, path: tuple[int | str, ...], reason: str) -> SessionFileError:
    """Names the field, and the line of the innermost part of its path that stands in the text."""
    cursor = _Cursor(text, start)
    field = f"sessions[{number}]"
    for part in path:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
        before = cursor.at
        children: Iterator[int | str] = cursor.items() if isinstance(part, int) else cursor.members()
        places = [cursor.at for child in children if child == part]
        if not places:
            cursor.at = before
            break
        cursor.at = places[-1]
    return SessionFileError(f"{cursor.line()}: {field}: {reason[:1].lower()}{reason[1:]}")


class _Cursor:
    """A place in JSON text. While walking, a value that the caller does not read is skipped."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at

    def line(self) -> int:
        """The line of the place, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def value(self) -> object:
        """Reads the value at this place and moves behind it."""
        try:
            value, self.at = _decode(self.text, self.at)
        except StopIteration:
            raise json.JSONDecodeError("Expecting value", self.text, self.at) from None
        except json.JSONDecodeError:
            raise
        except ValueError:
            raise json.JSONDecodeError("A number too long", self.text, self.at) from None
        return value

    def members(self) -> Iterator[str]:
        """The keys of the object here, each time standing at its value."""
        for _ in self._parts("{", "}"):
            if self.text[self.at : self.at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name in double quotes", self.text, self.at)
            key, self.at = scanstring(self.text, self.at + 1)
            self._expect(":")
            self.skip_space()
            yield from self._unless_read(key)

    def items(self) -> Iterator[int]:
        """The indices of the array here, each time standing at the element."""
        for index in self._parts("[", "]"):
            yield from self._unless_read(index)

    def _parts(self, opening: str, closing: str) -> Iterator[int]:
        self._expect(opening)
        self.skip_space()
        if self.text[self.at : self.at + 1] == closing:
            self.at += 1
            return
        index = 0
        while True:
            yield index
            index += 1
            self.skip_space()
            if self.text[self.at : self.at + 1] == closing:
                self.at += 1
                return
            self._expect(",")
            self.skip_space()

    def _unless_read(self, part: T) -> Iterator[T]:
        start = self.at
        yield part
        if self.at == start:
            self.value()

    def _expect(self, sign: str) -> None:
        self.skip_space()
        if self.text[self.at : self.at + 1] != sign:
            raise json.JSONDecodeError(f"Expecting '{sign}'", self.text, self.at)
        self.at += 1
