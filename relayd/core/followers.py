"""Who follows the table, and in which order they are told: by named phases, not by who subscribed first.

A later phase reads what an earlier one wrote: what the kernel program counted for a binding that ends is in the counts
of its user before the state file or a metric reads them. Within one phase the order does not matter, for no two in it
write what the other reads:

- KERNEL and THREADS have one follower each: a binding is served by one fast path and one set of sockets.
- RECORDS has two: `Records` forgets who is no longer in a session, `Restoration` brings back who is let into one.
- READERS write only what is their own.
"""

import enum
from collections.abc import Callable
from typing import Protocol

from relayd.core.events import Event
from relayd.core.session import User


class Phase(enum.IntEnum):
    """When a follower is told, earliest first."""

    KERNEL = 0
    """The kernel program, which keeps forwarding over a restart: it takes over its bindings before anybody else."""
    THREADS = 1
    """What serves the sockets; it also has bindings written into the state file."""
    RECORDS = 2
    """The state file: by now all counts of what ends are in the table. Restores what the kernel did not keep."""
    READERS = 3
    """Session source, metrics and log."""


class ChangeFollower(Protocol):
    """Told of changes to sessions and bindings."""

    def event(self, event: Event) -> None:
        """The table has changed so."""


class UserFollower(Protocol):
    """Told of who may take part in a session."""

    def authorized(self, user: User, admitted: bool) -> None:
        """A user was let into its session, or is no longer in it.

        For one that is let in the follower may restore a binding; all phases are told of that change at once, before
        the next one is told of the user.
        """


def raise_it(error: Exception) -> None:
    """The default for a follower that failed: the caller who changed the table gets its exception."""
    raise error


class Followers:
    """Everybody who follows one table.

    Args:
        failed: called with what a follower raised. If it returns, the others are told all the same and the change
            of the table is completed: one defect must not leave a user half revoked.
    """

    def __init__(self, failed: Callable[[Exception], None] = raise_it) -> None:
        self._failed = failed
        # Replaced with each subscription, not changed: one may end while followers are being told.
        self._of_changes: tuple[tuple[Phase, ChangeFollower], ...] = ()
        self._of_users: tuple[tuple[Phase, UserFollower], ...] = ()

    def subscribe(self, phase: Phase, follower: ChangeFollower) -> None:
        """Tells it of each change of a session or binding from now on, after the change was made."""
        self._of_changes = tuple(sorted((*self._of_changes, (phase, follower)), key=_phase))

    def subscribe_to_users(self, phase: Phase, follower: UserFollower) -> None:
        """Tells it of each user who is let into a session, or is no longer in it."""
        self._of_users = tuple(sorted((*self._of_users, (phase, follower)), key=_phase))

    def unsubscribe(self, follower: object) -> None:
        """Tells it no more; nothing happens to one that does not follow."""
        self._of_changes = tuple(one for one in self._of_changes if one[1] is not follower)
        self._of_users = tuple(one for one in self._of_users if one[1] is not follower)

    def tell(self, event: Event) -> None:
        """For the table: a session or binding has changed."""
        for _, follower in self._of_changes:
            try:
                follower.event(event)
            except Exception as error:  # noqa: BLE001 - `failed` decides
                self._failed(error)

    def tell_of_user(self, user: User, admitted: bool) -> None:
        """For the table: a user was let into its session, or is no longer in it."""
        for _, follower in self._of_users:
            try:
                follower.authorized(user, admitted)
            except Exception as error:  # noqa: BLE001 - `failed` decides
                self._failed(error)


def _phase(subscription: tuple[Phase, object]) -> Phase:
    return subscription[0]
