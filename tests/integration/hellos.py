"""Counts what a simulated game says before it plays: it is not among the messages that the game itself numbers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from relayd.simulation.payload import HELLO_SEQUENCE
from relayd.simulation.peers import Host, Player


@pytest.fixture
def hellos(monkeypatch: pytest.MonkeyPatch) -> Counter[type]:
    """How many hellos players have sent, one each unless the answer took its time, and how many the host answered."""
    counts: Counter[type] = Counter()

    def counting(kind: type, say: Callable[..., None], at: int) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            counts[kind] += arguments[at] == HELLO_SEQUENCE
            say(*arguments)

        return counted

    monkeypatch.setattr(Player, "_say", counting(Player, Player._say, 1))
    monkeypatch.setattr(Host, "_say", counting(Host, Host._say, 2))
    return counts
