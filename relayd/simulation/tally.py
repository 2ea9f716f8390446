"""Counts of one direction of one player's traffic, by sequence number."""


class Silence:
    """The longest time between two messages."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._heard_at: float | None = None

    def ends(self, now: float) -> None:
        """A message arrived."""
        if self._heard_at is not None:
            self.longest_seconds = max(self.longest_seconds, now - self._heard_at)
        self._heard_at = now


class Tally:
    """What arrived of messages that are numbered from 1."""

    def __init__(self) -> None:
        self.received = 0
        """Different messages that arrived."""
        self.duplicated = 0
        self.reordered = 0
        """Messages that arrived after a later one."""
        self._highest = 0
        self._missing: set[int] = set()

    def arrived(self, sequence: int) -> None:
        """Counts a message."""
        if sequence > self._highest:
            self._missing.update(range(self._highest + 1, sequence))
            self._highest = sequence
            self.received += 1
        elif sequence in self._missing:
            self._missing.discard(sequence)
            self.reordered += 1
            self.received += 1
        else:
            self.duplicated += 1

    def lost(self, sent: int) -> int:
        """How many of the ``sent`` messages never arrived."""
        return sent - self.received

    def missing(self, sent: int) -> list[int]:
        """Which of them those are."""
        return sorted(self._missing | set(range(self._highest + 1, sent + 1)))
