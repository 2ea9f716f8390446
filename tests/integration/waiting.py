"""Waits for a thing itself, never for a time in which it probably happens."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 90.0
"""How long anything may take on a machine that is busy with something else. Only what fails waits so long."""

_POLL_SECONDS = 0.01


def eventually(probe: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(_POLL_SECONDS)
