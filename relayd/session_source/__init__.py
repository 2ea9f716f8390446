"""Where sessions come from. Each source follows its origin and hands whole, validated states to the table's owner."""

from collections.abc import Collection, Iterable, KeysView
from typing import Protocol

from relayd.core.desired import Change, SessionSpec, Snapshot, UserSpec
from relayd.core.lookups import Lookups
from relayd.core.session import Session
from relayd.core.source_status import SourceStatus
from relayd.core.usage import UsageTaker
from relayd.event_loop.pacing import in_slices


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

    async def leave_relays(self, relays: Collection[tuple[str, int]]) -> None:
        """Lets nobody in from these addresses and ports of the fleet's relays, instead of those told before."""
        ...


class Source(Protocol):
    """A source of sessions."""

    @property
    def status(self) -> SourceStatus:
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


def spec_of(session: Session) -> SessionSpec:
    """A session as its source named it."""
    users = tuple(UserSpec(user.token, user.ip_address) for user in session.users.values())
    return SessionSpec(session.session_id, session.token, users)
