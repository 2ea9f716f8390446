"""Guessed user tokens. Whoever knows a session's token, as each of its players does, may try to come in as another.

There are 2³² user tokens: an hour's work at a million a second. To answer only a few of the wrong ones would not help,
for the right one among them would still count. So unknown user tokens are counted by session and by source, and above a
rate nobody who is not bound yet is let in by a right token either. Above the rate a search finds nothing at all, and
below it takes long: with the defaults, 20 a second from one source and 50 a second in one session from wherever, 2³²
tokens are 6.8 and 2.7 years; in an hour's game that 8 users have yet to come to, the chance to find one is 1 in 3,000.

Who is bound plays on. Who has yet to come, or moves, while its session is searched gets in from the address that it was
authorized with or was bound at before, and from elsewhere a second after the search ended. A player who was authorized
a moment too late is far below the rates: it sends some 7 datagrams a second until it is let in.
"""

from collections import OrderedDict
from typing import NamedTuple, Protocol

from relayd.core.limits import Limits, network_of
from relayd.core.session import Binding, Session, User

_BURST_SECONDS = 1.0
_LONGEST_SECONDS = 2.0
"""An excess is forgotten a second after it ended, however large it was."""


class Noted(NamedTuple):
    """Guesses of a source, and in a session: when they would have been due in seconds, had they come evenly."""

    source_due: float
    session_due: float


class GuessCounter(Protocol):
    """An engine that counts guesses of which `Guesses` does not hear."""

    def noted(self, ip_address: str, session: Session) -> Noted:
        """What it noted of a source and in a session."""


class Guesses:
    """How often user tokens are guessed.

    Args:
        limits: the rates.
        most_sources: bound on the sources remembered; of more, the one first heard is forgotten.
    """

    def __init__(self, limits: Limits, most_sources: int = 10_000) -> None:
        self._counters: tuple[GuessCounter, ...] = ()
        self._session_interval = 1 / limits.guesses_per_second
        self._source_interval = 1 / limits.guesses_per_source_per_second
        self._most_sources = most_sources
        self._sources: OrderedDict[str, float] = OrderedDict()
        """Network → when its guesses would have been due."""

    def register(self, counter: GuessCounter) -> None:
        """Takes into account what this engine noted as well."""
        self._counters += (counter,)

    def unregister(self, counter: GuessCounter) -> None:
        """Asks it no more."""
        self._counters = tuple(one for one in self._counters if one is not counter)

    def note(self, session: Session, ip_address: str, now: float) -> bool:
        """Counts a user token that the session does not have. False if they come too often for anybody to be told."""
        source = network_of(ip_address)
        source_due = self._sources.get(source)
        if source_due is not None:
            self._sources[source] = _later(source_due, self._source_interval, now)
            if _too_many(source_due, now):
                # None of its guesses can be right any more, so they are no reason to hold others back.
                return False
        before = session.guesses_due
        session.guesses_due = _later(before, self._session_interval, now)
        if _too_many(before, now):
            # Sources may be invented then, and are not to push real ones out.
            return False
        if source_due is None:
            if len(self._sources) >= self._most_sources:
                self._sources.popitem(last=False)
            self._sources[source] = _later(0.0, self._source_interval, now)
        return True

    def holds_back(self, user: User, binding: Binding | None, ip_address: str, now: float) -> bool:
        """Whether a right token, from where its user is not bound, may be a lucky guess.

        Args:
            user: the user.
            binding: where it is bound now, if it is.
            ip_address: where the datagram comes from.
            now: seconds.
        """
        source_due = self._sources.get(network_of(ip_address), 0.0)
        session_due = user.session.guesses_due
        for counter in self._counters:
            noted = counter.noted(ip_address, user.session)
            source_due = max(source_due, noted.source_due)
            session_due = max(session_due, noted.session_due)
        if _too_many(source_due, now):
            return True
        familiar = ip_address == user.ip_address or (binding is not None and ip_address == binding.address[0])
        return not familiar and _too_many(session_due, now)


def _too_many(due: float, now: float) -> bool:
    return due > now + _BURST_SECONDS


def _later(due: float, interval: float, now: float) -> float:
    """Counts what is above the rate as well: a source that keeps guessing too fast never gets below it."""
    return min(max(due, now) + interval, now + _LONGEST_SECONDS)
