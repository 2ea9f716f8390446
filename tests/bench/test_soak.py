"""How a soak judges: the most of the last quarter against the most of the second."""

import pytest

from bench.soak import Bound, Watched


@pytest.mark.parametrize(
    ("second", "last", "grown"),
    [
        ([50.0, 60.0], [70.0, 50.0], []),
        ([50.0, 60.0], [50.0, 70.1], ["relay: MiB grew from 60.0 to 70.1"]),
        ([60.0], [10.0], []),
    ],
)
def test_what_is_more_than_a_bound_allows_has_grown(second: list[float], last: list[float], grown: list[str]) -> None:
    looks = iter([500.0, *second, 500.0, *last])
    watched = Watched("relay", lambda: {"MiB": next(looks), "unbounded": 1.0}, {"MiB": Bound(1.1, 4.0)})
    for quarter in [0, *[1] * len(second), 2, *[3] * len(last)]:
        watched.look(quarter)
    assert watched.grown() == grown
