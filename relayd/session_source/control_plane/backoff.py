"""Exponential backoff for a failing control plane: twice as long each time, with jitter, up to a bound."""

from collections.abc import Callable

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 30.0


class Backoff:
    """Pauses between attempts.

    Args:
        random: gives a number from 0 up to 1, so that many relays do not come back all at once.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next_seconds = _FIRST_SECONDS

    def pause_seconds(self, retry_after_seconds: float | None) -> float:
        """The pause after one more failure; never shorter than what the control plane asked for."""
        pause = self._next_seconds * (0.5 + self._random() / 2)
        self._next_seconds = min(self._next_seconds * 2, _MOST_SECONDS)
        return pause if retry_after_seconds is None else max(pause, retry_after_seconds)

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self._next_seconds = _FIRST_SECONDS
