"""Who keeps coming with a right token while its session is searched.

A player sends some 7 to 60 datagrams a second with one token; a searcher has each of its datagrams try another one.
If it repeated them, it would try fewer: as many as it sends datagrams, divided by how often each token comes. That
number is what is bounded here, by counting the datagrams of all strangers in the session. The more they are, the longer
a player has to come: beside 300 a second one that sends 7 a second gets in after 2.5 s, beside 10,000 after 71 s.
"""

from collections import OrderedDict

from relayd.core.endpoint import Address
from relayd.core.wire import Port

PERSISTENT_SECONDS = 2.5
"""How long a token has to keep coming at least."""
_PAUSE_SECONDS = 3.0
"""After a pause this long it begins anew: longer than a client takes to give up and to come again."""
TRIED_PER_SECOND = 20
"""Tokens that a searcher of one session can try this way, however many datagrams it sends."""
_MOST_ADDRESSES = 4


class _Spell:
    """From when to when a token came from one address, and how often."""

    __slots__ = ("first", "last", "strangers_before", "times")

    def __init__(self, strangers: int, now: float) -> None:
        self.first = self.last = now
        self.times = 0
        self.strangers_before = strangers


class Persistence:
    """Of one user: the last addresses it was held back at."""

    __slots__ = ("_spells",)

    def __init__(self) -> None:
        self._spells: OrderedDict[tuple[Port, str], _Spell] = OrderedDict()

    def persists(self, port: Port, source: Address, strangers: int, now: float) -> bool:
        """Notes a datagram with the right token. True once it has come for long enough.

        Args:
            port: where it arrived.
            source: where it comes from.
            strangers: datagrams without a binding that have named the session so far, whatever their user tokens.
            now: seconds.
        """
        # Not by its UDP port: a client that gives up and comes again has another one.
        key = port, source[0]
        spell = self._spells.get(key)
        if spell is None or now - spell.last > _PAUSE_SECONDS:
            if spell is None and len(self._spells) >= _MOST_ADDRESSES:
                self._spells.popitem(last=False)
            spell = self._spells[key] = _Spell(strangers, now)
        self._spells.move_to_end(key)
        spell.times += 1
        spell.last = now
        lasted = now - spell.first
        heard = strangers - spell.strangers_before
        return lasted >= PERSISTENT_SECONDS and heard <= (spell.times - 1) * TRIED_PER_SECOND * lasted
