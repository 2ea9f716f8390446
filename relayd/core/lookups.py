"""Pairs of tokens that the table does not know and the control plane is asked about.

A player may be faster than the sync. Instead of turning it away, its pair is noted, and the next answer of the
control plane says whether it may come in. Whatever strangers send, memory stays bounded and one question asks for all.
"""

from collections import OrderedDict
from collections.abc import Callable

from relayd.core.wire import State

_DENIED_SECONDS = 5.0
"""How long after a denial the same pair is asked about again."""

_Pair = tuple[int, int]


class Lookups:
    """Which pairs are being asked about and which were said no to.

    Args:
        ask: called when there is something new to ask about.
        most: bound on the pairs remembered, of each kind.
    """

    def __init__(self, ask: Callable[[], None], most: int = 10_000) -> None:
        self._ask = ask
        self._most = most
        self._open: set[_Pair] = set()
        self._denied: OrderedDict[_Pair, float] = OrderedDict()
        """Pair → when it is asked about again, the one denied longest ago first."""

    def state_of(self, user_token: int, session_token: int, now: float) -> State:
        """What a player with an unknown pair is told: Checking while it is first asked about, Invalid after a no.

        It stays Invalid while it is asked about again: a player's screen would change back and forth.
        """
        pair = user_token, session_token
        again_at = self._denied.get(pair)
        if again_at is None or now >= again_at:
            if pair not in self._open:
                if len(self._open) >= self._most:
                    return State.INVALID
                self._open.add(pair)
                self._ask()
            if again_at is None:
                return State.CHECKING
        return State.INVALID

    def asked(self) -> frozenset[_Pair]:
        """The pairs that a question asked now is about."""
        return frozenset(self._open)

    def answered(self, asked: frozenset[_Pair], now: float) -> None:
        """The answer to that question has been applied: who is still unknown is denied."""
        for pair in asked & self._open:
            self._open.discard(pair)
            if pair not in self._denied and len(self._denied) >= self._most:
                self._denied.popitem(last=False)
            self._denied[pair] = now + _DENIED_SECONDS
            self._denied.move_to_end(pair)
