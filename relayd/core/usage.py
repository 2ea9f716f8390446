"""What was used: records of what each session forwarded, made so that they add up whatever happens to them.

A span is a stretch of a session at one relay over which its counts only grow; most sessions have one. A record carries
all that its span has counted so far. A consumer adds for each span the difference to the most it has seen: a record
that comes twice, late or never then makes no sum wrong. Records of one journal (its `stream`) are numbered, and no
number is given twice.
"""

import enum
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self

from relayd.core.counters import Traffic

MOST_UNSENT = 200_000
"""Records that wait to be acknowledged, at most; beyond that the oldest are discarded."""
_MERGE_FROM = 20_000
"""From this many waiting records on, a new one is merged with the one before it of its span."""


class Kind(enum.StrEnum):
    """Which of its span's records it is."""

    START = "start"
    INTERIM = "interim"
    STOP = "stop"


class Reason(enum.StrEnum):
    """Why a span ended."""

    REMOVED = "removed"
    """The source no longer names the session."""
    IDLE = "idle"
    """Nobody was there for limits.session_idle_timeout."""
    RESTART = "restart"
    """After a restart of the relay the session was gone, or its counts could not be continued."""


class Counts(NamedTuple):
    """What was forwarded; bytes as in `Traffic`."""

    to_host_datagrams: int = 0
    to_host_bytes: int = 0
    to_player_datagrams: int = 0
    to_player_bytes: int = 0

    @classmethod
    def of(cls, traffic: Traffic) -> Self:
        """The counts as they are now."""
        return cls(
            traffic.to_host_datagrams, traffic.to_host_bytes, traffic.to_player_datagrams, traffic.to_player_bytes
        )

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: "Counts") -> "Counts":
        """What these have more than the other."""
        return Counts(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def at_least(self, other: "Counts") -> bool:
        """Whether none of these is less than in the other."""
        return all(mine >= theirs for mine, theirs in zip(self, other, strict=True))


class UsageRecord(NamedTuple):
    """What a session used over a period."""

    sequence: int
    """From 1 on, without a repetition in its stream; merging leaves gaps."""
    span: str
    session_id: str
    kind: Kind
    reason: Reason | None
    """Of a stop."""
    began_at: float
    """Unix time at which the span began."""
    from_at: float
    """Unix time at which the period began: where the record before it ended."""
    to_at: float
    """Unix time; never before `from_at`, even if the clock was set back."""
    delta: Counts
    """Over this period."""
    total: Counts
    """Since the span began."""

    def fields(self) -> dict[str, Any]:
        """The record for JSON."""
        return {
            **self._asdict(),
            "delta": self.delta._asdict(),
            "total": self.total._asdict(),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """What `fields` gave.

        Raises:
            KeyError, TypeError, ValueError: these are not the fields of a record.
        """
        reason = fields["reason"]
        return cls(
            int(fields["sequence"]),
            str(fields["span"]),
            str(fields["session_id"]),
            Kind(fields["kind"]),
            None if reason is None else Reason(reason),
            float(fields["began_at"]),
            float(fields["from_at"]),
            float(fields["to_at"]),
            Counts(**fields["delta"]),
            Counts(**fields["total"]),
        )


class UsageBatch(NamedTuple):
    """Records to be taken together, in their order."""

    stream: str
    records: Sequence[UsageRecord]


class UsageDelayedError(Exception):
    """Records could not be delivered now, or it is not known whether they were.

    Args:
        problem: why, in one sentence.
        pause_seconds: how long to wait before the next attempt.
    """

    def __init__(self, problem: str, pause_seconds: float) -> None:
        super().__init__(problem)
        self.pause_seconds = pause_seconds


class UsageUnwantedError(Exception):
    """The receiver takes no usage records at all."""


class UsageRefusedError(Exception):
    """At least one of the records will never be accepted, so none was taken. The text says why."""


class UsageTaker(Protocol):
    """Where usage records are delivered: a control plane, or a file."""

    async def take(self, batch: UsageBatch) -> None:
        """Takes them for good: on return no crash loses them. The same records may come again.

        Raises:
            UsageDelayedError: not now.
            UsageRefusedError: never, as they are.
            UsageUnwantedError: not here.
        """


class Ledger:
    """How far each span is recorded, and the records that wait to be acknowledged.

    Args:
        stream: names the journal.
        sequence: the last number that was given to a record.
        acknowledged: up to which number records were taken.
    """

    def __init__(self, stream: str, sequence: int = 0, acknowledged: int = 0) -> None:
        self.stream = stream
        self.sequence = sequence
        self.acknowledged = acknowledged
        self.spans: dict[str, UsageRecord] = {}
        """The newest record of each span that goes on."""
        self.unsent: OrderedDict[int, UsageRecord] = OrderedDict()
        """By number, ascending."""
        self.unwritten: OrderedDict[int, UsageRecord] = OrderedDict()
        """Those of them that the journal does not have yet."""
        self._handed_out = 0
        """Records up to this number were sent, and may have arrived without being acknowledged."""
        self.kept = True
        """Whether the journal can be written at present."""
        self.made = 0
        self.taken = 0
        self.merged = 0
        """Records merged into a later one of their span."""
        self.lost = 0
        """Last records of spans that were discarded because too many waited."""
        self.refused = 0
        """Records that the receiver refused for good, and that went to the file instead."""

    def start(self, span: str, session_id: str, now: float) -> None:
        """Begins a span that has counted nothing yet.

        Args:
            span: a name that no other span has.
            session_id: whose it is.
            now: Unix time.
        """
        self._add(
            UsageRecord(
                sequence=self.sequence + 1,
                span=span,
                session_id=session_id,
                kind=Kind.START,
                reason=None,
                began_at=now,
                from_at=now,
                to_at=now,
                delta=Counts(),
                total=Counts(),
            )
        )

    def interim(self, span: str, total: Counts, now: float) -> bool:
        """Records how far a span has counted. False where it has counted nothing since its record before."""
        before = self.spans[span]
        if total == before.total:
            return False
        self._add(self._after(before, Kind.INTERIM, None, total, now))
        return True

    def stop(self, span: str, total: Counts, now: float, reason: Reason) -> UsageRecord:
        """Records the end of a span."""
        record = self._after(self.spans[span], Kind.STOP, reason, total, now)
        self._add(record)
        return record

    def _after(self, before: UsageRecord, kind: Kind, reason: Reason | None, total: Counts, now: float) -> UsageRecord:
        return before._replace(
            sequence=self.sequence + 1,
            kind=kind,
            reason=reason,
            from_at=before.to_at,
            to_at=max(now, before.to_at),
            delta=total.minus(before.total),
            total=total,
        )

    def _add(self, record: UsageRecord) -> None:
        self.made += 1
        if len(self.unsent) >= _MERGE_FROM:
            record = self._merged(record)
        self.replay(record)
        self.unwritten[record.sequence] = record
        if len(self.unsent) > MOST_UNSENT:
            # A span that continues has the same counts in its later records; only a discarded last record is a loss.
            number, oldest = self.unsent.popitem(last=False)
            self.unwritten.pop(number, None)
            self.lost += oldest.kind is Kind.STOP

    def _merged(self, record: UsageRecord) -> UsageRecord:
        """The record, merged with the one before it if that still waits and was not sent."""
        before = self.spans.get(record.span)
        if before is None or before.sequence <= self._handed_out or before.sequence not in self.unsent:
            return record
        del self.unsent[before.sequence]
        self.unwritten.pop(before.sequence, None)
        self.merged += 1
        return record._replace(from_at=before.from_at, delta=before.delta.plus(record.delta))

    def replay(self, record: UsageRecord) -> None:
        """Adds a record, also one that was read back; to be called in the order of their numbers."""
        self.sequence = max(self.sequence, record.sequence)
        before = self.spans.get(record.span)
        if before is not None and before.total.plus(record.delta) != record.total:
            # It was merged into this one.
            self.unsent.pop(before.sequence, None)
        if record.kind is Kind.STOP:
            self.spans.pop(record.span, None)
        else:
            self.spans[record.span] = record
        if record.sequence > self.acknowledged:
            self.unsent[record.sequence] = record

    def batch(self, up_to: int, most: int) -> UsageBatch:
        """The oldest records that wait to be acknowledged, none of them numbered above ``up_to``."""
        oldest = islice(self.unsent.values(), most)
        batch = UsageBatch(self.stream, [record for record in oldest if record.sequence <= up_to])
        if batch.records:
            self._handed_out = max(self._handed_out, batch.records[-1].sequence)
        return batch

    def acknowledge(self, sequence: int) -> None:
        """All records up to this number were taken."""
        self.acknowledged = max(self.acknowledged, sequence)
        self.sequence = max(self.sequence, sequence)
        while self.unsent and next(iter(self.unsent)) <= sequence:
            self.unsent.popitem(last=False)
            self.taken += 1
