"""Usage as relays report it and as the API shows it."""

from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field

from relayd.control_plane.models import Amount
from relayd.core.usage import Counts, Kind, Reason, UsageRecord

MOST_RECORDS = 1000
"""In one report."""

Name = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9._-]+$")]
UnixTime = Annotated[float, Field(ge=0, le=2**40, allow_inf_nan=False)]


class ReportedCounts(BaseModel):
    """See `Counts`."""

    to_host_datagrams: Amount
    to_host_bytes: Amount
    to_player_datagrams: Amount
    to_player_bytes: Amount


class ReportedRecord(BaseModel):
    """See `UsageRecord`."""

    sequence: Annotated[int, Field(strict=True, ge=1, le=2**53)]
    span: Name
    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    kind: Kind
    reason: Reason | None
    began_at: UnixTime
    from_at: UnixTime
    to_at: UnixTime
    delta: ReportedCounts
    total: ReportedCounts

    def record(self) -> UsageRecord:
        """The record."""
        return UsageRecord.from_fields(self.model_dump())


class UsageReport(BaseModel):
    """Body of a relay's report."""

    stream: Name
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
