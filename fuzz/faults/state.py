"""The state file in memory, on the virtual clock: what outlives a simulated relay."""

from collections.abc import Callable
from mmap import mmap

from relayd.state import layout
from relayd.state.memory import StateMemory

_SLOTS = 512


class VirtualState(StateMemory):
    """Memory in the layout of the state file.

    Args:
        now: seconds, on the clock of the relay.
        before: what the relay before this one left; None where nothing is left.
    """

    def __init__(self, now: Callable[[], float], before: "VirtualState | None") -> None:
        self.memory = before.memory if before is not None else mmap(-1, layout.record_at(_SLOTS))
        self.slots = _SLOTS
        self.fresh = before is None
        self.same_sockets = before is not None
        self.beat_at: float = before.beat_at if before is not None else 0.0
        self._now = now

    def grow(self) -> bool:
        """There is never more room."""
        return False

    def take_over(self) -> None:
        """There is no header."""

    def beat(self) -> None:
        """Notes that somebody is there."""
        self.beat_at = self._now()

    def silent_seconds(self) -> float | None:
        """How long nobody was there."""
        return self._now() - self.beat_at

    def close(self) -> None:
        """The memory stays."""
