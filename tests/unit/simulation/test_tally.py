"""The simulated game's counts against a naive count of the same messages."""

import random

import pytest

from relayd.simulation.tally import Tally


class NaiveTally:
    """Remembers everything."""

    def __init__(self) -> None:
        self.arrivals: list[int] = []

    @property
    def received(self) -> int:
        return len(set(self.arrivals))

    @property
    def duplicated(self) -> int:
        return len(self.arrivals) - self.received

    @property
    def reordered(self) -> int:
        first_arrivals = list(dict.fromkeys(self.arrivals))
        return sum(any(before > one for before in first_arrivals[:at]) for at, one in enumerate(first_arrivals))


def test_all_in_order() -> None:
    tally = Tally()
    for sequence in range(1, 101):
        tally.arrived(sequence)
    assert (tally.received, tally.duplicated, tally.reordered, tally.lost(100)) == (100, 0, 0, 0)


def test_the_last_ones_lost() -> None:
    tally = Tally()
    tally.arrived(1)
    assert tally.lost(10) == 9


@pytest.mark.parametrize("attempt", range(200))
def test_it_counts_as_the_naive_one_does(attempt: int) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    sent = chance.randrange(1, 60)
    arrivals = [one for one in range(1, sent + 1) for _ in range(chance.choice((0, 1, 1, 1, 1, 2)))]
    for _ in range(chance.randrange(6)):
        if len(arrivals) > 1:
            first = chance.randrange(len(arrivals))
            arrivals.insert(chance.randrange(len(arrivals)), arrivals.pop(first))
    tally, naive = Tally(), NaiveTally()
    for sequence in arrivals:
        tally.arrived(sequence)
        naive.arrivals.append(sequence)
        counts = (tally.received, tally.duplicated, tally.reordered)
        assert counts == (naive.received, naive.duplicated, naive.reordered), f"seed {seed}"
        assert tally.lost(sent) == sent - naive.received
