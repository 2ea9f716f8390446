"""The last refusals and changes, so that an operator can be told why a player does or does not get through.

Written only where something is refused or changes, never for a datagram that is forwarded. Memory is bounded by the
number of rings and of entries in each, whatever strangers send: what was heard longest ago is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from relayd.core.endpoint import Address
from relayd.core.events import Event, EventKind
from relayd.core.limits import network_of
from relayd.core.session import Binding, Session, User
from relayd.core.verdict import Verdict
from relayd.core.wire import DATA, HEADER_BYTES, Port, unpack_header

ENTRIES = 16
"""Of each kind kept for one session, and of refusals for one source."""
_NEW_SPELL_SECONDS = 60.0
"""After a pause this long, what comes again is counted from one."""


class Refusal(NamedTuple):
    """Datagrams that were dropped; what is equal is one entry and counted."""

    verdict: Verdict
    port: Port
    ip_address: str
    udp_port: int
    user_token: int | None
    """As the datagrams name it; None where they are too short to."""
    session_token: int | None


class Change(NamedTuple):
    """What happened to a session, or to one of its users."""

    kind: EventKind
    user_token: int | None = None
    port: Port | None = None
    """Where the user is bound, or was; None for what no binding had a part in."""
    ip_address: str = ""
    udp_port: int = 0


T = TypeVar("T", bound=Hashable)


class Spell:
    """How often, and from when to when, without a pause of a minute."""

    __slots__ = ("data", "first", "last", "times")

    def __init__(self, now: float) -> None:
        self.times = 0
        self.data = 0
        """How many of them were DATA."""
        self.first = now
        self.last = now


class Ring(Generic[T]):
    """The last different things, oldest first."""

    __slots__ = ("_most", "_spells")

    def __init__(self, most: int = ENTRIES) -> None:
        self._most = most
        self._spells: OrderedDict[T, Spell] = OrderedDict()

    def note(self, what: T, now: float, is_data: bool = False, times: int = 1) -> None:
        """Adds one occurrence, or `times`."""
        spell = self._spells.get(what)
        if spell is None or now - spell.last > _NEW_SPELL_SECONDS:
            if spell is None and len(self._spells) >= self._most:
                self._spells.popitem(last=False)
            spell = self._spells[what] = Spell(now)
        self._spells.move_to_end(what)
        spell.times += times
        spell.data += is_data
        spell.last = now

    def __iter__(self) -> Iterator[tuple[T, Spell]]:
        return iter(self._spells.items())

    def __len__(self) -> int:
        return len(self._spells)


class SessionHistory:
    """Of one session, also for a while after it ended. Refusals cannot push out changes."""

    __slots__ = ("changes", "refusals", "session_id")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.refusals = Ring[Refusal]()
        self.changes = Ring[Change]()


class History:
    """Of the whole relay: two rings for each session somebody came to, and one for each source that named none.

    Args:
        sessions: the sessions in the table, by token.
        most_sessions: bound on the sessions remembered.
        most_sources: bound on the sources remembered: IPv4 addresses and IPv6 /64 networks.
    """

    def __init__(self, sessions: Mapping[int, Session], most_sessions: int = 4096, most_sources: int = 1024) -> None:
        self.sessions: OrderedDict[int, SessionHistory] = OrderedDict()
        """By session token, the one heard longest ago first."""
        self.strangers: OrderedDict[str, Ring[Refusal]] = OrderedDict()
        """By network of the source, the one heard longest ago first."""
        self._table = sessions
        self._most_sessions = most_sessions
        self._most_sources = most_sources

    def refused(self, verdict: Verdict, port: Port, data: bytes, source: Address, now: float) -> None:
        """Notes a datagram that was dropped.

        Args:
            verdict: why.
            port: where it arrived.
            data: all of it; its tokens are read even where it is malformed otherwise.
            source: who sent it.
            now: seconds.
        """
        user_token, session_token, kind = unpack_header(data) if len(data) >= HEADER_BYTES else (None, None, None)
        own = self._of_token(session_token) if session_token is not None else None
        ring = own.refusals if own is not None else self._of_source(network_of(source[0]))
        ring.note(Refusal(verdict, port, source[0], source[1], user_token, session_token), now, kind == DATA)

    def limited(self, binding: Binding, datagrams: int, now: float) -> None:
        """Notes datagrams that were dropped for the rate of a bound user, wherever that was."""
        user, (ip_address, udp_port) = binding.user, binding.address[:2]
        session = user.session
        refusal = Refusal(Verdict.RATE_LIMITED, binding.port, ip_address, udp_port, user.token, session.token)
        self._of(session.token, session.session_id).refusals.note(refusal, now, times=datagrams)

    def changed(self, event: Event, now: float) -> None:
        """Notes a change of the table. A session is worth memory from the moment that somebody came to it."""
        session, binding = event.session, event.binding
        if binding is not None:
            ip_address, udp_port = binding.address[:2]
            change = Change(event.kind, binding.user.token, binding.port, ip_address, udp_port)
            self._of(session.token, session.session_id).changes.note(change, now)
        elif session.token in self.sessions:
            self.sessions[session.token].changes.note(Change(event.kind), now)

    def revoked(self, user: User, now: float) -> None:
        """Notes that a user who was not bound is no longer in its session."""
        token = user.session.token
        if token in self.sessions:
            self.sessions[token].changes.note(Change(EventKind.USER_REVOKED, user.token), now)

    def _of_token(self, session_token: int) -> SessionHistory | None:
        session = self._table.get(session_token)
        if session is not None:
            return self._of(session_token, session.session_id)
        return self.sessions.get(session_token)

    def _of(self, session_token: int, session_id: str) -> SessionHistory:
        own = self.sessions.get(session_token)
        if own is None or own.session_id != session_id:
            own = self.sessions[session_token] = SessionHistory(session_id)
            if len(self.sessions) > self._most_sessions:
                self.sessions.popitem(last=False)
        self.sessions.move_to_end(session_token)
        return own

    def _of_source(self, network: str) -> Ring[Refusal]:
        ring = self.strangers.get(network)
        if ring is None:
            ring = self.strangers[network] = Ring()
            if len(self.strangers) > self._most_sources:
                self.strangers.popitem(last=False)
        self.strangers.move_to_end(network)
        return ring
