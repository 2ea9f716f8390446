"""Histograms, against counting by hand."""

from hypothesis import given
from hypothesis import strategies as st

from relayd.core.histogram import Histogram

BOUNDS = (0.001, 0.01, 0.1)


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 1))))
def test_each_is_counted_in_the_first_bucket_that_holds_it(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    at_most = [sum(value <= bound for value in values) for bound in BOUNDS]
    assert histogram.counts == [
        at_most[0],
        at_most[1] - at_most[0],
        at_most[2] - at_most[1],
        len(values) - at_most[2],
    ]
    assert histogram.sum_seconds == sum(values)


def test_a_copy_stays_as_it_is() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(0.05)
    copy = histogram.copy()
    histogram.observe(0.5)
    assert (copy.bounds_seconds, copy.counts, copy.sum_seconds) == (BOUNDS, [0, 0, 1, 0], 0.05)
