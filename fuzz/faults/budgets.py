"""What rates, guesses and silence let through, kept beside the relay in the naive way.

The naive way and the engine's come to the same, to the last datagram, where times and rates are exact in a double: the
world's clock goes by ticks, and its rates are powers of two.
"""

from typing import NamedTuple

from relayd.core.desired import SessionSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.limits import Limits
from relayd.core.session import Binding, Session, User
from relayd.core.table import Table
from relayd.core.verdict import REFUSAL_STATE, Verdict
from relayd.core.wire import PING, Port
from tests.support.naive_relay import (
    FAMILIAR,
    SILENT_SECONDS,
    TO_SILENT_PER_SECOND,
    NaiveRate,
    NaiveRelay,
    NaiveSession,
    Vessel,
)

MOST_SOURCES = 64
"""How many sources of guesses, and of refusals, are remembered: few, so that some are forgotten."""

FROM_ITS_PLACE = (
    Verdict.FORWARDED,
    Verdict.ANSWERED,
    Verdict.NO_HOST,
    Verdict.UNKNOWN_CONNECTION,
    Verdict.RATE_LIMITED,
)
"""What becomes of datagrams from where their user is bound."""
_PLACES = (EventKind.USER_BOUND, EventKind.USER_MOVED, EventKind.USER_RETURNED)
_ENDS = (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE)


class _Peer:
    """What one who is bound may send, and what it may be sent while it is silent."""

    def __init__(self, rate: NaiveRate) -> None:
        self.rate = rate
        self.to_silent = Vessel(TO_SILENT_PER_SECOND)


class Arrived(NamedTuple):
    """A datagram that the relay has not judged yet."""

    session: Session | None
    user: User | None
    held_back: bool
    """Whether its token is right and may be a lucky guess."""
    may_be_told: bool
    """Whether so few tokens are guessed that whoever sent a wrong one hears of it."""


class Budgets:
    """All of one relay's, from its start to its end.

    Args:
        limits: the relay's.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._naive = NaiveRelay(limits, MOST_SOURCES)
        self._sessions: dict[Session, NaiveSession] = {}
        self._peers: dict[Binding, _Peer] = {}

    def changed(self, event: Event, now: float) -> None:
        """The table has changed."""
        session, binding = event.session, event.binding
        if event.kind is EventKind.SESSION_ADDED:
            limits = self._limits
            rate = NaiveRate(limits.session_datagrams_per_second, limits.session_bytes_per_second)
            spec = SessionSpec(session.session_id, session.token, ())
            self._sessions[session] = NaiveSession(spec, now, rate, Vessel(limits.guesses_per_second))
        elif event.kind in _ENDS:
            del self._sessions[session]
        if binding is None:
            return
        if event.kind is EventKind.USER_BOUND:
            self._peers[binding] = _Peer(self._naive.rate_of(binding.port))
        if event.kind in _PLACES:
            self._is_at(self._sessions[session], binding.user.token, binding.address[0])
        elif event.kind in UNBOUND:
            del self._peers[binding]

    def _is_at(self, session: NaiveSession, user: int, ip: str) -> None:
        places = session.places.setdefault(user, [])
        places[:] = [*(one for one in places if one != ip), ip]
        session.held_back = {key: times for key, times in session.held_back.items() if key[0] != user}

    def revoked(self, user: User) -> None:
        """A user is no longer in its session."""
        session = self._sessions.get(user.session)
        if session is not None:
            session.places.pop(user.token, None)
            session.held_back = {key: times for key, times in session.held_back.items() if key[0] != user.token}

    def arrives(self, table: Table, endpoint: Endpoint, data: bytes, source: Address, now: float) -> Arrived:
        """A datagram is about to be judged."""
        session = table.by_token.get(int.from_bytes(data[4:8], "little"))
        if session is None:
            return Arrived(None, None, held_back=False, may_be_told=True)
        token, naive = int.from_bytes(data[:4], "little"), self._sessions[session]
        user = session.users.get(token)
        if user is None:
            told = session.was_revoked(token, now) or self._naive.note_guess(naive, token, source[0], now)
            return Arrived(session, None, held_back=False, may_be_told=told)
        binding = user.binding_on(endpoint.port)
        elsewhere = binding is None or (binding.endpoint, binding.address) != (endpoint, source)
        familiar = (user.ip_address, *naive.places.get(token, [])[-FAMILIAR:])
        held_back = (
            elsewhere
            and source[0] not in familiar
            and self._naive.is_searched(naive, source[0], now)
            and not self._naive.persists(naive, (token, endpoint.port, source[0]), now)
        )
        naive.strangers += held_back
        return Arrived(session, user, held_back, may_be_told=True)

    def judged(
        self, arrived: Arrived, endpoint: Endpoint, data: bytes, source: Address, now: float, action: Action
    ) -> None:
        """Raises AssertionError if the relay let through or held back what it should not have."""
        verdict = action.verdict
        assert (verdict is Verdict.GUESS_LIMITED) == arrived.held_back, f"{verdict.label}: guesses are counted wrong"
        if verdict in REFUSAL_STATE:
            told = arrived.may_be_told and self._naive.may_be_told(source[0], now)
            assert (action.endpoint is not None) == told, f"{verdict.label} was told: {not told}, should be: {told}"
        if verdict in FROM_ITS_PLACE:
            assert arrived.session is not None
            assert arrived.user is not None
            expected = self._at_its_place(arrived.session, arrived.user, endpoint.port, data, now)
            assert verdict is expected, f"{verdict.label}, and by the rates it should be {expected.label}"

    def _at_its_place(self, session: Session, user: User, port: Port, data: bytes, now: float) -> Verdict:
        binding = user.binding_on(port)
        assert binding is not None
        # The user's first: what is above it is no burden to the others in the session.
        rates = self._peers[binding].rate, self._sessions[session].rate
        if not all(rate.take(len(data), now) for rate in rates):
            return Verdict.RATE_LIMITED
        if data[8] == PING:
            return Verdict.ANSWERED
        if port is Port.CLIENT:
            return self._sent_to(session.host, Verdict.NO_HOST, now)
        player = session.players.get(int.from_bytes(data[9:13], "little", signed=True))
        return self._sent_to(player.client_binding if player is not None else None, Verdict.UNKNOWN_CONNECTION, now)

    def _sent_to(self, receiver: Binding | None, nobody: Verdict, now: float) -> Verdict:
        if receiver is None:
            return nobody
        silent = now - receiver.last_seen >= SILENT_SECONDS
        if silent and not self._peers[receiver].to_silent.take(now):
            return Verdict.RATE_LIMITED
        return Verdict.FORWARDED
