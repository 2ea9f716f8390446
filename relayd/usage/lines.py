"""The journal's lines: a checksum, a blank, JSON. What was being written when the host lost power has the wrong one.

A record is an array, which takes a third of the room and time of an object; everything else is an object.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

from relayd.core.usage import Counts, Kind, Ledger, Reason, UsageRecord

_CHECKSUM_BYTES = 8
_VERSION = 1
# Counted by hand, where other layouts have a digest: those are replaced when they change, while what waits to be billed
# has to be read by every later version. tests/unit/usage/test_lines.py has a journal of each.
_KINDS = {kind.value: kind for kind in Kind}
_REASONS: dict[str | None, Reason | None] = {None: None, **{reason.value: reason for reason in Reason}}


class NoJournalError(Exception):
    """A file is there and is no journal; the text says why."""


def head(ledger: Ledger, sequence: int, acknowledged: int) -> bytes:
    """The first line: whose records follow, and which of them may be missing because they were acknowledged.

    Args:
        ledger: has the name of the stream.
        sequence: the last number given to a record so far.
        acknowledged: up to which number records were acknowledged.
    """
    return _line({"journal": _VERSION, "stream": ledger.stream, "sequence": sequence, "acknowledged": acknowledged})


def records(some: Iterable[UsageRecord]) -> bytes:
    """A line for each."""
    return b"".join(_line([*record[:8], *record.delta, *record.total]) for record in some)


def acknowledged(sequence: int) -> bytes:
    """The line that says that all records up to this one were acknowledged."""
    return _line({"acknowledged": sequence})


def _line(content: object) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Replayed:
    """A journal as it was read."""

    def __init__(self, content: bytes, new_stream: Callable[[], str]) -> None:
        """Reads it all.

        Args:
            content: of the file.
            new_stream: gives a name that no other journal has.

        Raises:
            NoJournalError: there is nothing of a journal in it, or it is of another version.
        """
        self.ledger = Ledger("")
        self.damaged = 0
        """Damaged lines, but for those at the end."""
        self.records = 0
        self.stopped: set[str] = set()
        """Spans whose last record is in it."""
        self.bytes = 0
        """Where to continue the file: what follows was only half written."""
        damaged = 0
        for end, said in _lines_of(content):
            if said is None:
                damaged += 1
                continue
            self.bytes = end
            self.damaged += damaged
            damaged = 0
            self._replay(said)
        if not self.bytes:
            raise NoJournalError("no line of it is intact")
        self.headless = not self.ledger.stream
        """Whether the first line was damaged: its records, and the next, go under a new name."""
        if self.headless:
            self.ledger.stream = new_stream()
        self.ledger.taken = 0

    def _replay(self, said: Any) -> None:
        ledger = self.ledger
        try:
            if isinstance(said, list):
                record = _record_of(said)
                ledger.replay(record)
                self.records += 1
                if record.kind is Kind.STOP:
                    self.stopped.add(record.span)
                return
            if "journal" in said:
                if said["journal"] != _VERSION:
                    raise NoJournalError(f"it is of version {said['journal']}, this relayd writes {_VERSION}")
                ledger.stream = ledger.stream or str(said["stream"])
                ledger.sequence = max(ledger.sequence, int(said["sequence"]))
            ledger.acknowledge(int(said["acknowledged"]))
        except (KeyError, TypeError, ValueError):
            self.damaged += 1


def _record_of(fields: list[Any]) -> UsageRecord:
    sequence, span, session_id, kind, reason, began_at, from_at, to_at, *counts = fields
    delta, total = Counts(*counts[:4]), Counts(*counts[4:])
    return UsageRecord(
        sequence, span, session_id, _KINDS[kind], _REASONS[reason], began_at, from_at, to_at, delta, total
    )


def _lines_of(content: bytes) -> Iterator[tuple[int, Any]]:
    """Where each line ends, and what it says; None where it is damaged."""
    end = 0
    for line in BytesIO(content):
        end += len(line)
        text = line[_CHECKSUM_BYTES + 1 : -1]
        intact = line.endswith(b"\n") and line[: _CHECKSUM_BYTES + 1] == b"%08x " % zlib.crc32(text)
        # Only this module gives a text this checksum before it.
        yield end, json.loads(text) if intact else None
