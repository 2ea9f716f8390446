"""Usage as relays report it and as the API shows it."""

from typing import Annotated, NamedTuple, Self

from pydantic import Field

from relayd.control_plane.forms import Asked, Described
from relayd.control_plane.node_models import Amount
from relayd.core.usage import Counts, Kind, Reason, UsageRecord

MOST_RECORDS = 1000
"""In one report."""

Name = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9._-]+$")]
UnixTime = Annotated[float, Field(ge=0, le=2**40, allow_inf_nan=False)]


class ReportedCounts(Asked):
    """What was forwarded in each direction."""

    to_host_datagrams: Amount
    to_host_bytes: Amount
    to_player_datagrams: Amount
    to_player_bytes: Amount


class ReportedRecord(Asked):
    """What a session used over a period."""

    sequence: Annotated[int, Field(strict=True, ge=1, le=2**53)]
    """From 1 on, without a repetition in its stream."""
    span: Name
    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    kind: Kind
    reason: Reason | None
    """Of a stop."""
    began_at: UnixTime
    """When the span began."""
    from_at: UnixTime
    to_at: UnixTime
    delta: ReportedCounts
    """Over this period."""
    total: ReportedCounts
    """Since the span began."""

    def record(self) -> UsageRecord:
        """The record."""
        return UsageRecord.from_fields(self.model_dump())


class UsageReport(Asked):
    """Records of one journal, in their order."""

    stream: Name
    """Names the journal."""
    records: Annotated[list[ReportedRecord], Field(max_length=MOST_RECORDS)]


class UsageQuery(NamedTuple):
    """What is asked for; None for no bound."""

    session_id: str | None = None
    relay: str | None = None
    since: float | None = None
    """Unix time; of records whose period ended then or later."""
    until: float | None = None
    """Unix time; of records whose period ended before."""
    after: tuple[str, str] | None = None
    """Session and relay of the last sum that is known."""
    limit: int = 100


class UsageSum(NamedTuple):
    """What a session used at a relay."""

    session_id: str
    relay: str
    from_at: float
    to_at: float
    ended: bool
    """Whether the relay has said that this was all."""
    counts: Counts


class UsedInADirection(Described):
    """What was forwarded in one direction."""

    datagrams: int
    bytes: int


class SessionUsage(Described):
    """What a session used at a relay."""

    session_id: str
    relay: str
    began_at: Annotated[float, Field(serialization_alias="from")]
    ended_at: Annotated[float, Field(serialization_alias="to")]
    ended: bool
    """Whether the relay has said that this was all."""
    to_host: UsedInADirection
    to_player: UsedInADirection

    @classmethod
    def of(cls, used: UsageSum) -> Self:
        """The sum as it is shown."""
        counts = used.counts
        return cls(
            session_id=used.session_id,
            relay=used.relay,
            began_at=used.from_at,
            ended_at=used.to_at,
            ended=used.ended,
            to_host=UsedInADirection(datagrams=counts.to_host_datagrams, bytes=counts.to_host_bytes),
            to_player=UsedInADirection(datagrams=counts.to_player_datagrams, bytes=counts.to_player_bytes),
        )


class UsageList(Described):
    """A page of sums, by session and relay."""

    usage: list[SessionUsage]
    next: str | None
    """What to pass as `after` for the following page; null on the last."""
