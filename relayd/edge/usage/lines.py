"""The journal's lines: a checksum, a blank, JSON. What was being written when the host lost power has the wrong one."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relayd.core.usage import Kind, Ledger, UsageRecord

_CHECKSUM_BYTES = 8
_VERSION = 1


class NoJournalError(Exception):
    """A file is there and is no journal; the text says why."""


def head(ledger: Ledger, sequence: int, acknowledged: int) -> bytes:
    """The first line: whose records follow, and which of them need not be there any more.

    Args:
        ledger: has the name of the stream.
        sequence: the last number given to a record so far.
        acknowledged: up to which number records were taken.
    """
    return _line({"journal": _VERSION, "stream": ledger.stream, "sequence": sequence, "acknowledged": acknowledged})


def records(some: Iterable[UsageRecord]) -> bytes:
    """A line for each."""
    return b"".join(_line(record.fields()) for record in some)


def acknowledged(sequence: int) -> bytes:
    """The line that says that all records up to this one were taken."""
    return _line({"acknowledged": sequence})


def _line(fields: dict[str, object]) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Replayed:
    """A journal as it was read."""

    def __init__(self, content: bytes) -> None:
        """Reads it all.

        Raises:
            NoJournalError: its first line is none of a journal.
        """
        lines = list(_lines_of(content))
        self.damaged = 0
        """Lines that say nothing any more, but for those at the end."""
        self.records = 0
        self.stopped: set[str] = set()
        """Spans whose last record is in it."""
        self.bytes = max((end for end, fields in lines if fields is not None), default=0)
        """How much of it to go on after: what follows was only half written."""
        try:
            first = lines[0][1] or {}
            if first["journal"] != _VERSION:
                raise ValueError
            self.ledger = Ledger(str(first["stream"]), int(first["sequence"]), int(first["acknowledged"]))
        except (IndexError, KeyError, TypeError, ValueError):
            raise NoJournalError("its first line is damaged, or of another version") from None
        for end, fields in lines[1:]:
            if end <= self.bytes:
                self._replay(fields or {})
        self.ledger.taken = 0

    def _replay(self, fields: Mapping[str, Any]) -> None:
        try:
            if "span" in fields:
                record = UsageRecord.from_fields(fields)
                self.ledger.replay(record)
                self.records += 1
                if record.kind is Kind.STOP:
                    self.stopped.add(record.span)
            else:
                self.ledger.acknowledge(int(fields["acknowledged"]))
        except (KeyError, TypeError, ValueError):
            self.damaged += 1


def _lines_of(content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Where each line ends, and what it says; None where it is damaged."""
    end = 0
    for line in content.split(b"\n")[:-1]:
        end += len(line) + 1
        text = line[_CHECKSUM_BYTES + 1 :]
        intact = line[: _CHECKSUM_BYTES + 1] == b"%08x " % zlib.crc32(text)
        # Only this module gives a text this checksum before it.
        yield end, json.loads(text) if intact else None
