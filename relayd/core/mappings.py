"""Players by the address and port that they are bound at, and who there has to be heard since another user came.

A NAT gives a mapping that nobody uses any more to somebody else. From then on the player who had it would be sent
another one's datagrams, for as long as it takes to be called silent. Users that share a socket are heard there still.
"""

from heapq import heappop, heappush
from itertools import count, islice
from typing import NamedTuple

from relayd.core.probation import Place
from relayd.core.session import Binding
from relayd.core.wire import Port

DOUBT_SECONDS = 1.0
"""Real clients send a PING every half second."""
MOST_DOUBTED = 16
"""Of more at one place, those that came last: so many are a load generator, and each of them would doubt all others."""


class Doubt(NamedTuple):
    """About a player at whose place another user was bound."""

    binding: Binding
    place: Place
    since: float
    """When the other one came, in seconds."""


class Mappings:
    """Players by place. Hosts are not among them: who is host is settled by rules of its own."""

    def __init__(self) -> None:
        self._at: dict[Place, dict[Binding, None]] = {}
        """By place, in the order in which they came; of thousands at one place each is quickly taken away."""
        self._queue: list[tuple[float, int, Doubt]] = []
        """Heap of when to look; the number only keeps doubts from being compared."""
        self._numbers = count()

    def add(self, binding: Binding) -> None:
        """Notes where a binding is now."""
        if binding.port is Port.CLIENT:
            self._at.setdefault(binding.place, {})[binding] = None

    def remove(self, binding: Binding) -> None:
        """Forgets a binding; to be called before it moves."""
        if binding.port is Port.CLIENT:
            here = self._at[binding.place]
            del here[binding]
            if not here:
                del self._at[binding.place]

    def doubt_others(self, binding: Binding, now: float) -> None:
        """Has everybody else looked at who is where this one just came to."""
        if binding.port is Port.CLIENT and len(here := self._at[binding.place]) > 1:
            last = tuple(islice(reversed(here), 1, 1 + MOST_DOUBTED))
            for other in reversed(last):
                self.look_again(Doubt(other, other.place, now), now + DOUBT_SECONDS)

    def look_again(self, doubt: Doubt, at: float) -> None:
        """Has a doubt come up at a time, in seconds."""
        heappush(self._queue, (at, next(self._numbers), doubt))

    def next_due(self) -> float | None:
        """When the next doubt comes up, in seconds; None while there is none."""
        return self._queue[0][0] if self._queue else None

    def pop(self) -> Doubt:
        """Takes the doubt that comes up next."""
        return heappop(self._queue)[2]
