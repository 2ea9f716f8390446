"""Estimates from PINGs against what they mean, whatever comes when."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from relayd.core.pings import LONGEST_INTERVAL_NS, PERIOD_NS, Pings

SECOND_NS = 1_000_000_000
intervals = st.lists(st.one_of(st.integers(0, 2 * SECOND_NS), st.integers(0, 2 * LONGEST_INTERVAL_NS)), max_size=60)


@given(intervals)
def test_as_the_formulas_have_it(steps: list[int]) -> None:
    pings, now_ns = Pings(), SECOND_NS
    pings.note(now_ns)
    missed, jitter = 0, Fraction(0)
    for step in steps:
        now_ns += step
        pings.note(now_ns)
        if step < LONGEST_INTERVAL_NS:
            periods = max(1, int(Fraction(step, PERIOD_NS) + Fraction(1, 2)))
            missed += periods - 1
            jitter += (abs(step - periods * PERIOD_NS) - jitter) / 16
    assert (pings.heard, pings.missed, pings.last_ns) == (1 + len(steps), missed, now_ns)
    assert 0 <= pings.loss < 1
    # Each step rounds by half a unit at most, and keeps 15/16 of what was wrong before: eight units in all.
    assert abs(pings.jitter_sixteenths_ns - 16 * jitter) <= 8


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_what_is_lost_of_even_pings_is_found_exactly(arrives: list[bool]) -> None:
    pings = Pings()
    sent = [True, *arrives, True]
    for number, there in enumerate(sent):
        if there:
            pings.note(SECOND_NS + number * PERIOD_NS)
    assert (pings.heard, pings.missed, pings.jitter_sixteenths_ns) == (sum(sent), len(sent) - sum(sent), 0)
