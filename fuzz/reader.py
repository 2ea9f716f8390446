"""Bytes as a row of choices, so that what a fuzzer changes in them changes a choice."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Reader:
    """Takes choices off the front; behind the end, every choice is the first one.

    Args:
        data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether there is anything more."""
        return self._at < len(self._data)

    def number(self) -> int:
        """0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.number() % len(choices)]

    def take(self, count: int) -> bytes:
        """As many as are left, at most ``count``."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def until(self, end: int) -> bytes:
        """All before that byte, which is taken too."""
        found = self._data.find(end, self._at)
        taken = self._data[self._at : found if found >= 0 else len(self._data)]
        self._at += len(taken) + 1
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
