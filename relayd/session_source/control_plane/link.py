"""What a relay and its control plane exchange, over HTTP or within one process."""

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

from relayd.core.desired import SessionSpec
from relayd.core.source_status import Load
from relayd.core.usage import UsageBatch

MOST_REVISION = 1 << 53
"""Every JSON number up to this is exact (RFC 8259, 6); a control plane takes no greater one."""


NO_FLEET = "none"
"""What a relay knows of its fleet at first."""


class Version(NamedTuple):
    """A state of the control plane's sessions for one relay."""

    epoch: str
    """Which history the revision belongs to; a control plane that lost its data begins a new one."""
    revision: int


class Report(NamedTuple):
    """What a relay says of itself with each heartbeat."""

    applied: Version | None
    """The newest state its table is known to agree with."""
    load: Load
    ended: tuple[str, ...]
    """Sessions that ended because nobody was there."""
    fleet: str = NO_FLEET
    """Names the `FleetSockets` that it was told last."""
    handed_back: tuple[SessionSpec, ...] = ()
    """Sessions that the control plane lost and that somebody plays in."""


class FleetSockets(NamedTuple):
    """Where the fleet's relays send from."""

    digest: str
    """Another one for other sockets."""
    sockets: frozenset[tuple[str, int]]
    """IP address and port of each."""


class News(NamedTuple):
    """What a control plane answers a heartbeat."""

    version: Version
    """The newest state of its sessions for this relay."""
    fleet: FleetSockets | None = None
    """None if they are those that the relay knows, or if this control plane does not say."""
    went_back: bool = False
    """Whether it had the state that the relay has applied, and lost it: a backup of it was restored."""
    taken_back: tuple[str, ...] = ()
    """Those of the sessions that were handed back which it has now."""


class Reading(NamedTuple):
    """A part of the control plane's sessions for this relay."""

    version: Version | None
    """The state it was read at; None where the control plane has no revisions."""
    full: bool
    """Whether all parts together are all sessions there should be, or only what changed."""
    upserts: tuple[SessionSpec, ...]
    removals: tuple[str, ...]


class LinkError(Exception):
    """The control plane could not be asked, or what it answered cannot be used.

    Args:
        problem: what is wrong, in one sentence.
        retry_after_seconds: how long the control plane wants to be left alone, if it said so.
    """

    def __init__(self, problem: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after_seconds = retry_after_seconds


class Link(Protocol):
    """A way to a control plane."""

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:
        """Tells how the relay fares and learns the newest state of its sessions.

        Args:
            report: how the relay fares.
            wait_seconds: how long the answer may be held back while there is nothing newer than `report.applied`.

        Returns:
            What is new; None where the control plane has no revisions, so that only reading all tells.

        Raises:
            LinkError: it could not be asked.
        """
        ...

    def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        """Reads what changed since ``applied``, or everything, in parts.

        Raises:
            LinkError: it could not be read to the end; the parts so far are worth nothing if they are `full`.
        """
        ...

    async def take_usage(self, batch: UsageBatch) -> None:
        """Sends usage records.

        Raises:
            LinkError: they could not be sent, or it is not known whether they arrived.
            UsageRefusedError: the control plane will never take them as they are.
            UsageUnwantedError: this control plane takes none.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...
