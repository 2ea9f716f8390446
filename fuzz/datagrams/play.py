"""What happens around the datagrams, the same for every engine: relays one after another, and time that passes."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

from fuzz import recorded
from fuzz.datagrams.mutate import LIMITS, USUAL_LIMITS, Mutator, Sent
from tests.support.virtual_clock import TICK

BATCH = 64
_BATCHES = 64
"""Of one relay."""
_POOL = 512
_SECONDS = (*(TICK,) * 8, 0.25, 0.25, 0.5, 1.0, 5.0, 20.0)


class Engine(Protocol):
    """One engine, and the one it is compared with."""

    def begin(self, limits: dict[str, object]) -> None:
        """Another relay, with all sessions and nobody bound."""

    def revoke(self, users: tuple[int, ...]) -> None:
        """These are no longer in any session; all others are."""

    def wait(self, seconds: float) -> None:
        """Time passes."""

    def deliver(self, batch: list[Sent]) -> Counter[str]:
        """Brings datagrams, one after another. Returns what became of them.

        Raises:
            AssertionError: anything that should not have.
        """


def play(engine: Engine, random: Random, count: int, progress: Callable[[int], None]) -> Counter[str]:
    """Sends so many datagrams. Returns what became of them.

    Args:
        engine: gets them.
        random: chooses them.
        count: how many.
        progress: called with how many more there were.
    """
    mutator = Mutator(random)
    outcomes: Counter[str] = Counter()
    left = count
    while left:
        engine.begin({**USUAL_LIMITS, **random.choice(LIMITS)})
        pool = mutator.pool(_POOL)
        for _ in range(_BATCHES):
            if random.random() < 0.05:
                engine.revoke(random.choice(((), recorded.USERS[:1], recorded.USERS[1:3])))
            batch = random.choices(pool, k=min(left, BATCH))
            outcomes += engine.deliver(batch)
            left -= len(batch)
            progress(len(batch))
            if not left:
                break
            engine.wait(random.choice(_SECONDS))
    return outcomes
