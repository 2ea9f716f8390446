"""How fresh a relay's sessions are, and the load that it reports to its control plane."""

from collections.abc import Collection
from typing import NamedTuple


class Load(NamedTuple):
    """How much a relay has to do, and where, as a control plane wants to know it."""

    bound_users: int
    draining: bool
    addresses: Collection[str] = ()
    """IP addresses that its sockets are reached at."""


class SourceStatus:
    """How a source stands: how old its knowledge is, and what last went wrong."""

    def __init__(self) -> None:
        self.fresh_at: float | None = None
        """When the table was last known to agree with the origin, or following began, on the event loop's clock."""
        self.followed = False
        """Whether the table agreed with the origin at any time since following began."""
        self.failures = 0
        """How often the origin could not be read or its state was refused."""
        self.problem: str | None = None
        """Why the table does not follow the origin at present; None while it does."""
        self.looked_at: float | None = None
        """When the last finished look at the origin began, on the event loop's clock."""
        self.told_draining: bool | None = None
        """Whether the origin was last told that the relay drains; None where it is told nothing."""

    def started(self, now: float) -> None:
        """Following begins: until the first success, the age is that of the attempt."""
        self.fresh_at = now

    def looked(self, began: float) -> None:
        """A look at the origin that began at that time has finished, with or without success."""
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
