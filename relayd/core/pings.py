"""How evenly a peer's PINGs come: what that says of loss and jitter on its way here, with no help of the client.

A client PINGs every half a second. Whole numbers of nanoseconds, so that the same PINGs give the same numbers wherever
they are heard: thread/pings.h has the same for the forwarding thread and the kernel program.
"""

PERIOD_NS = 500_000_000
LONGEST_INTERVAL_NS = 30_000_000_000
"""A longer silence is no loss of PINGs, but an absence. The default of limits.user_timeout."""


class Pings:
    """The PINGs of one binding that one engine answered."""

    __slots__ = ("heard", "jitter_sixteenths_ns", "last_ns", "missed")

    def __init__(self, last_ns: int = 0, heard: int = 0, missed: int = 0, jitter_sixteenths_ns: int = 0) -> None:
        self.last_ns = last_ns
        """When the last one came; 0 where the interval to the next one says nothing."""
        self.heard = heard
        self.missed = missed
        """How many more should have come in between."""
        self.jitter_sixteenths_ns = jitter_sixteenths_ns

    def note(self, now_ns: int) -> None:
        """Counts one more.

        Args:
            now_ns: more than 0, from a clock that may only seem to go back, between two processors.
        """
        self.heard += 1
        interval_ns = now_ns - self.last_ns
        if interval_ns < 0:
            return
        if self.last_ns and interval_ns < LONGEST_INTERVAL_NS:
            periods = max(1, (interval_ns + PERIOD_NS // 2) // PERIOD_NS)
            self.missed += periods - 1
            deviation_ns = abs(interval_ns - periods * PERIOD_NS)
            # RFC 3550, 6.4.1, in the whole numbers of its A.8: a sixteenth of the way to each new one.
            self.jitter_sixteenths_ns += deviation_ns - (self.jitter_sixteenths_ns + 8 >> 4)
        self.last_ns = now_ns

    def add(self, other: "Pings") -> None:
        """Adds what another engine heard of the same binding. The jitter is that of whichever heard one last."""
        self.heard += other.heard
        self.missed += other.missed
        if other.heard and other.last_ns >= self.last_ns:
            self.last_ns = other.last_ns
            self.jitter_sixteenths_ns = other.jitter_sixteenths_ns

    @property
    def loss(self) -> float:
        """The share that was missed of all that should have come."""
        return self.missed / ((self.heard + self.missed) or 1)

    @property
    def interval_jitter_seconds(self) -> float:
        """By how much an interval differs from a whole number of periods, smoothed."""
        return self.jitter_sixteenths_ns / 16e9


def together(*engines: Pings | None) -> Pings | None:
    """What several engines heard of one binding; None if nobody heard any."""
    total = Pings()
    for one in engines:
        if one is not None:
            total.add(one)
    return total if total.heard else None
