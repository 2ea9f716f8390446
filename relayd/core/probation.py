"""What a user's binding was before it moved, for as long as the move may prove to be somebody else's.

A NAT that changed never sends from the old mapping again. So whoever is still heard from the old address is another
sender than the one at the new address, and the older one is the player. Unless it was a datagram that had been under
way for long: then nothing follows it, and the refusal ends with the silence of the older one.
"""

from typing import NamedTuple

from relayd.core.endpoint import Address, Endpoint

PROBATION_SECONDS = 10.0
REFUSED_SECONDS = 60.0
"""How long the newcomer's address is refused for that user, while the older one is heard."""
_MOST_REFUSED = 8


class Place(NamedTuple):
    """Where a user can be bound."""

    endpoint: Endpoint
    address: Address


class Probation(NamedTuple):
    """Of one binding that moved."""

    before: Place
    connection_id: int
    """Of the player, as the host knew it there."""
    until: float
    """Seconds; from then on the new address is the user's."""


class RefusedPlaces:
    """Where one user may not be bound for a while. Of too many, the first is forgotten."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Place, float] = {}

    def add(self, place: Place, now: float) -> None:
        """Refuses it from now on."""
        self._until.pop(place, None)
        if len(self._until) >= _MOST_REFUSED:
            del self._until[next(iter(self._until))]
        self._until[place] = now + REFUSED_SECONDS

    def has(self, place: Place, now: float) -> bool:
        """Whether it is refused."""
        return now < self._until.get(place, 0.0)
