"""What became of a load, by sequence number."""

from typing import NamedTuple


class Tally(NamedTuple):
    """Datagrams of one direction."""

    sent: int
    delivered: int
    """Arrived as they were sent, at the right socket; each counted once."""
    lost: int
    reordered: int
    """Arrived behind a later one of the same flow (as in RFC 4737)."""
    duplicated: int
    corrupted: int
    """Arrived with anything in it changed, missing or added, or at the wrong socket."""

    @property
    def lost_share(self) -> float:
        """Of what was sent."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def flawless(self) -> bool:
        """All arrived once, unchanged and in order."""
        return self.delivered == self.sent and not (self.reordered or self.duplicated or self.corrupted)


def together(tallies: list[Tally]) -> Tally:
    """The sum."""
    return Tally(*(sum(values) for values in zip(*tallies, strict=True)))
