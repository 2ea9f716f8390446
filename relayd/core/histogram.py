"""Counts of how long something took, by bucket."""

from bisect import bisect_left


class Histogram:
    """Counts by bucket; the last has no bound.

    Args:
        bounds_seconds: upper bounds of all buckets but the last, each included in its bucket, smallest first.
    """

    def __init__(self, bounds_seconds: tuple[float, ...]) -> None:
        self.bounds_seconds = bounds_seconds
        self.counts = [0] * (len(bounds_seconds) + 1)
        self.sum_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self.counts[bisect_left(self.bounds_seconds, seconds)] += 1
        self.sum_seconds += seconds

    def copy(self) -> "Histogram":
        """The counts as they are now."""
        copy = Histogram(self.bounds_seconds)
        copy.counts = list(self.counts)
        copy.sum_seconds = self.sum_seconds
        return copy
