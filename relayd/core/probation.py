"""What a user's binding was before it moved, for as long as the move may prove to be somebody else's.

A NAT that changed never sends from the old mapping again. So whoever is still heard from an older address is another
sender than the one at the newest, and the older one is the player. From then on its place is contested, and no newcomer
gets it, from whichever address, while the player is heard. It may also have been a datagram that had been under way for
long: then nothing follows it, and what is contested ends with that silence.
"""

from typing import NamedTuple

from relayd.core.endpoint import Address, Endpoint

PROBATION_SECONDS = 10.0
CONTESTED_SECONDS = 60.0
_MOST_PLACES = 4


class Place(NamedTuple):
    """Where a user can be bound."""

    endpoint: Endpoint
    address: Address


class Former(NamedTuple):
    """Where a user was bound."""

    place: Place
    connection_id: int
    """Of a player, as the host knew it there."""


class Probation(NamedTuple):
    """Of one binding that moved."""

    before: tuple[Former, ...]
    """Where it was in the moves that are on probation, the oldest first."""
    until: float
    """Seconds; from then on the new address is the user's."""

    def at(self, place: Place) -> Former | None:
        """What it was at that place; None if it was not there."""
        return next((former for former in self.before if former.place == place), None)

    def older_than(self, former: Former) -> "Probation | None":
        """That of the moves before, once it is back there."""
        before = self.before[: self.before.index(former)]
        return Probation(before, self.until) if before else None


def moved(earlier: Probation | None, former: Former, now: float) -> Probation:
    """Of a binding that moves on from there."""
    before = earlier.before if earlier is not None else ()
    return Probation((*before, former)[-_MOST_PLACES:], now + PROBATION_SECONDS)
