"""Guessed user tokens. Whoever knows a session's token, as each of its players does, may try to come in as another.

There are 2³¹ user tokens: half an hour's work at a million a second. To answer only a few of the wrong ones would not
help, for the right one among them would still count. So wrong user tokens are counted by session and by source, and
above a rate nobody who is not bound yet is let in by a right token either. Above the rate a search finds nothing, and
below it takes long: with the defaults, 20 a second from one source and 50 a second in one session from wherever, 2³¹
tokens are 3.4 and 1.4 years.

What slows a search must not keep a household out, so these are told from one:

- A *guess* is a wrong token that its source has not tried yet in this session. A client that was kicked, or that has an
  old token, sends the same one 60 times a second and guesses once. Nor is a token that was revoked a guess.
- Who comes from the address that it was authorized with, or that it was bound at before, is never held back.
- A right token that keeps coming from one address is let in after a few seconds, see `Persistence`: a searcher cannot
  repeat all that it tries.

Who is bound plays on. All others get in a second after the search ended.
"""

from collections import OrderedDict
from typing import NamedTuple, Protocol

from relayd.core.endpoint import Address
from relayd.core.limits import Limits, network_of
from relayd.core.persistence import Persistence
from relayd.core.session import Session, User
from relayd.core.wire import Port

_BURST_SECONDS = 1.0
_LONGEST_SECONDS = 2.0
"""An excess is forgotten a second after it ended, however large it was."""

TRIED_SECONDS = 60.0
"""How long a wrong token is known to its source after it was heard there last."""

_Guess = tuple[str, int, int]
"""Network of the source, session token, user token."""


class _Heard:
    """Guesses of the last minute. Of too many, the one heard longest ago is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heard: OrderedDict[_Guess, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def hears_again(self, guess: _Guess, now: float) -> bool:
        """Whether it is one of them; then it is the one heard last."""
        heard = self._heard.get(guess)
        if heard is None or now - heard >= TRIED_SECONDS:
            return False
        self.add(guess, now)
        return True

    def add(self, guess: _Guess, now: float) -> None:
        """Notes it."""
        if guess not in self._heard and len(self._heard) >= self._most:
            self._heard.popitem(last=False)
        self._heard[guess] = now
        self._heard.move_to_end(guess)


class Noted(NamedTuple):
    """What an engine noted of a source and in a session."""

    source_due: float
    """When the guesses of the source would have been due in seconds, had they come evenly."""
    session_due: float
    """The same of those in the session."""
    strangers: int
    """Datagrams with wrong tokens that it dropped in the session."""


class GuessCounter(Protocol):
    """An engine that counts guesses of which `Guesses` does not hear."""

    def noted(self, ip_address: str, session: Session) -> Noted:
        """What it noted."""


class Guesses:
    """How often user tokens are guessed.

    Args:
        limits: the rates.
        most_sources: bound on the sources remembered; of more, the one first heard is forgotten.
        most_tried: bound on the wrong tokens remembered; of more, the one heard longest ago is forgotten.
    """

    def __init__(self, limits: Limits, most_sources: int = 10_000, most_tried: int = 65_536) -> None:
        self._counters: tuple[GuessCounter, ...] = ()
        self._session_interval = 1 / limits.guesses_per_second
        self._source_interval = 1 / limits.guesses_per_source_per_second
        self._most_sources = most_sources
        self._sources: OrderedDict[str, float] = OrderedDict()
        """Network → when its guesses would have been due."""
        self._tried = _Heard(most_tried)
        """Guesses that were within the rates."""
        self._above = _Heard(most_tried)
        """Those that were not: a right one was held back then, so that each is a guess once it is heard within them."""

    def register(self, counter: GuessCounter) -> None:
        """Takes into account what this engine noted as well."""
        self._counters += (counter,)

    def unregister(self, counter: GuessCounter) -> None:
        """Asks it no more."""
        self._counters = tuple(one for one in self._counters if one is not counter)

    def note(self, session: Session, user_token: int, ip_address: str, now: float) -> bool:
        """Notes a user token that the session does not have. False if they come too often for anybody to be told."""
        session.strangers += 1
        source = network_of(ip_address)
        guess = source, session.token, user_token
        if self._tried.hears_again(guess, now):
            return True
        source_due = self._sources.get(source)
        above = source_due is not None and _too_many(source_due, now)
        if (above or _too_many(session.guesses_due, now)) and self._above.hears_again(guess, now):
            return False
        if source_due is not None:
            self._sources[source] = _later(source_due, self._source_interval, now)
            if above:
                # None of its guesses can be right any more, so they are no reason to hold others back.
                self._above.add(guess, now)
                return False
        before = session.guesses_due
        session.guesses_due = _later(before, self._session_interval, now)
        if _too_many(before, now):
            # Sources may be invented then, and are not to push real ones out.
            self._above.add(guess, now)
            return False
        if source_due is None:
            if len(self._sources) >= self._most_sources:
                self._sources.popitem(last=False)
            self._sources[source] = _later(0.0, self._source_interval, now)
        self._tried.add(guess, now)
        return True

    def holds_back(self, user: User, port: Port, source: Address, now: float) -> bool:
        """Whether a right token, from where its user is not bound, may be a lucky guess.

        Args:
            user: the user.
            port: where the datagram arrived.
            source: where it comes from.
            now: seconds.
        """
        ip_address = source[0]
        if ip_address == user.ip_address or ip_address in user.familiar:
            return False
        session = user.session
        source_due = self._sources.get(network_of(ip_address), 0.0)
        session_due = session.guesses_due
        strangers = session.strangers
        for counter in self._counters:
            noted = counter.noted(ip_address, session)
            source_due = max(source_due, noted.source_due)
            session_due = max(session_due, noted.session_due)
            strangers += noted.strangers
        if not _too_many(source_due, now) and not _too_many(session_due, now):
            return False
        if user.persistence is None:
            user.persistence = Persistence()
        if user.persistence.persists(port, source, strangers, now):
            return False
        session.strangers += 1
        return True


def _too_many(due: float, now: float) -> bool:
    return due > now + _BURST_SECONDS


def _later(due: float, interval: float, now: float) -> float:
    """Counts what is above the rate as well: a source that keeps guessing too fast never gets below it."""
    return min(max(due, now) + interval, now + _LONGEST_SECONDS)
