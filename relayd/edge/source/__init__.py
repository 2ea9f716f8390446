"""Where sessions come from. Each source follows its origin and hands whole, validated states to the table's owner."""

from collections.abc import Iterable, KeysView
from typing import NamedTuple, Protocol

from relayd.core.desired import Change, Snapshot
from relayd.core.lookups import Lookups
from relayd.core.session import Session
from relayd.core.usage import UsageTaker
from relayd.pacing import in_slices


class Load(NamedTuple):
    """How much a relay has to do, as a control plane wants to know it."""

    bound_users: int
    draining: bool


class SessionTable(Protocol):
    """What a source may do to the table."""

    def session_ids(self) -> KeysView[str]:
        """The sessions in the table now."""
        ...

    def sessions(self) -> list[Session]:
        """The sessions themselves, not to be changed."""
        ...

    def edition(self) -> int:
        """A number that is another one whenever sessions or users were added or removed."""
        ...

    async def replace(self, snapshot: Snapshot) -> None:
        """Makes the table hold these sessions and no others."""
        ...

    async def change(self, change: Change) -> None:
        """Adds, updates and removes some sessions."""
        ...


class Source(Protocol):
    """A source of sessions."""

    @property
    def status(self) -> "SourceStatus":
        """How it stands."""
        ...

    @property
    def lookups(self) -> Lookups | None:
        """Where to ask about unknown pairs; None where there is nobody to ask."""
        ...

    @property
    def usage(self) -> UsageTaker | None:
        """Where usage records go; None where nobody takes them."""
        ...

    async def run(self) -> None:
        """Follows the origin until cancelled; failures are kept in `status` and logged, never raised."""
        ...

    def reload(self) -> None:
        """Looks at the origin at once, whether or not it seems changed."""
        ...

    def session_ended(self, session_id: str) -> None:
        """Takes note that the relay ended a session because nobody was there."""
        ...


async def count_missing(present: Iterable[str], snapshot: Snapshot) -> int:
    """How many of these sessions the snapshot does not name."""
    missing = 0
    async for session_id in in_slices(present):
        missing += session_id not in snapshot.sessions
    return missing


class SourceStatus:
    """How a source stands: how old its knowledge is, and what last went wrong."""

    def __init__(self) -> None:
        self.fresh_at: float | None = None
        """When the table was last known to agree with the origin, or following began, on the event loop's clock."""
        self.followed = False
        """Whether the table agreed with the origin at any time since following began."""
        self.failures = 0
        """How often the origin could not be read or was not believed."""
        self.problem: str | None = None
        """Why the table does not follow the origin at present; None while it does."""
        self.looked_at: float | None = None
        """When the last look at the origin that is over began, on the event loop's clock."""
        self.told_draining: bool | None = None
        """What the origin was last told of whether the relay drains; None where it is told nothing."""

    def started(self, now: float) -> None:
        """Following begins: until the first success, the age is that of the attempt."""
        self.fresh_at = now

    def looked(self, began: float) -> None:
        """A look at the origin that began then is over, whatever came of it."""
        self.looked_at = began

    def succeeded(self, now: float) -> None:
        """The table agrees with the origin."""
        self.fresh_at = now
        self.followed = True
        self.problem = None

    def failed(self, problem: str) -> None:
        """It does not, and this is why."""
        self.failures += 1
        self.problem = problem
