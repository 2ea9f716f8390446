"""Reads from the table and its history what bears on a question, in slices because the table may be large."""

from collections import Counter
from collections.abc import Callable, Iterator

from relayd.admin.explain.facts import (
    Attempt,
    BindingFacts,
    Change,
    RelayFacts,
    SessionFacts,
    Situation,
    UserFacts,
)
from relayd.admin.explain.target import Target
from relayd.core.engine import Engine
from relayd.core.history import Refusal, Spell
from relayd.core.session import Binding, Session, User
from relayd.core.verdict import Verdict
from relayd.core.views import Absorb, KernelView
from relayd.event_loop.pacing import in_slices

_UNSENT = (Verdict.SEND_QUEUE_FULL, Verdict.SEND_FAILED)


async def gather(
    engine: Engine, relay: RelayFacts, target: Target, *, now: float, absorb: Absorb, kernel: KernelView | None
) -> Situation:
    """All that is known of a target.

    Args:
        engine: the relay's.
        relay: what is true of the relay as a whole.
        target: what is asked about.
        now: seconds, on the clock the table is used with.
        absorb: called before counters are read.
        kernel: the fast path.
    """
    return await _Gathering(engine, relay, target, now=now, absorb=absorb, kernel=kernel).situation()


class _Gathering:
    def __init__(
        self,
        engine: Engine,
        relay: RelayFacts,
        target: Target,
        *,
        now: float,
        absorb: Absorb,
        kernel: KernelView | None,
    ) -> None:
        self._table = engine.table
        self._history = engine.table.history
        self._relay = relay
        self._target = target
        self._now = now
        self._absorb = absorb
        self._kernel = kernel
        self._sessions: dict[str, Session] = {}
        self._users: dict[User, None] = {}

    async def situation(self) -> Situation:
        await self._find_sessions()
        noted = await self._find_refusals()
        others = await self._sessions_of({what.user_token for what, _ in noted if what.user_token is not None})
        attempts = tuple(self._attempt(what, spell, others) for what, spell in noted)
        for attempt in attempts:
            self._touch(attempt)
        changes = tuple(self._changes(attempts))
        for change in changes:
            if change.session_id in self._table.sessions:
                self._sessions[change.session_id] = self._table.sessions[change.session_id]
        self._absorb(list(self._sessions.values()))
        return Situation(
            self._relay,
            self._target.words,
            tuple(self._session_facts(session) for session in self._sessions.values()),
            tuple(self._user_facts(user, self._lost(user.session)) for user in self._users),
            attempts,
            changes,
        )

    # The table ----------------------------------------------------------------------------------------------

    async def _find_sessions(self) -> None:
        target, table = self._target, self._table
        named = table.sessions.get(target.session_id)
        if named is None and target.token is not None:
            named = table.by_token.get(target.token)
        if named is not None:
            self._sessions[named.session_id] = named
            self._users |= dict.fromkeys(named.users.values())
        if target.token is None and target.ip_address is None:
            return
        async for session in in_slices(list(table.sessions.values())):
            for user in self._asked_about(session):
                self._sessions[session.session_id] = session
                self._users[user] = None

    def _asked_about(self, session: Session) -> Iterator[User]:
        target = self._target
        if target.token is not None:
            user = session.users.get(target.token)
            if user is not None:
                yield user
        elif session.bound:
            for user in session.users.values():
                bindings = (user.server_binding, user.client_binding)
                if any(b is not None and target.is_at(b.address[0], b.address[1]) for b in bindings):
                    yield user

    async def _sessions_of(self, tokens: set[int]) -> dict[int, tuple[str, ...]]:
        """In which sessions users with these tokens are."""
        found: dict[int, tuple[str, ...]] = {}
        if tokens:
            async for session in in_slices(list(self._table.sessions.values())):
                for token in tokens & session.users.keys():
                    found[token] = (*found.get(token, ()), session.session_id)
        return found

    def _touch(self, attempt: Attempt) -> None:
        """Takes the session that datagrams named into account, and whom of it they were in the name of."""
        session = self._table.sessions.get(attempt.session_id or "")
        if session is not None:
            self._sessions[session.session_id] = session
            user = session.users.get(attempt.user_token or 0)
            if user is not None and self._target.ip_address is not None:
                self._users[user] = None

    # The history --------------------------------------------------------------------------------------------

    async def _find_refusals(self) -> list[tuple[Refusal, Spell]]:
        wanted = self._wanted()
        found: list[tuple[Refusal, Spell]] = []
        rings = [own.refusals for own in self._history.sessions.values()]
        async for ring in in_slices([*rings, *self._history.strangers.values()]):
            found += [(what, spell) for what, spell in ring if wanted(what)]
        return found

    def _wanted(self) -> Callable[[Refusal], bool]:
        """Which refusals bear on the question."""
        target = self._target
        if target.ip_address is not None:
            return lambda what: target.is_at(what.ip_address, what.udp_port)
        tokens = {target.token} - {None}
        tokens |= {token for token, own in self._history.sessions.items() if own.session_id == target.session_id}
        named = self._table.sessions.get(target.session_id) or self._table.by_token.get(target.token or 0)
        if named is None:
            return lambda what: what.user_token in tokens or what.session_token in tokens
        tokens.add(named.token)
        known, members = self._table.by_token, named.users
        return lambda what: (
            what.user_token in tokens
            or what.session_token in tokens
            # A user of this session with an unknown session token: it may have meant this session.
            or (what.user_token in members and what.session_token not in known)
        )

    def _attempt(self, what: Refusal, spell: Spell, others: dict[int, tuple[str, ...]]) -> Attempt:
        session_id = self._id_of(what.session_token)
        exchanged = self._table.by_token.get(what.user_token or 0)
        swapped = exchanged is not None and what.session_token in exchanged.users
        return Attempt(
            *what,
            spell.times,
            spell.data,
            self._now - spell.first,
            self._now - spell.last,
            session_id,
            exchanged.session_id if exchanged is not None and swapped else None,
            tuple(other for other in others.get(what.user_token or 0, ()) if other != session_id),
        )

    def _id_of(self, session_token: int | None) -> str | None:
        if session_token is None:
            return None
        session = self._table.by_token.get(session_token)
        if session is not None:
            return session.session_id
        own = self._history.sessions.get(session_token)
        return own.session_id if own is not None else None

    def _changes(self, attempts: tuple[Attempt, ...]) -> Iterator[Change]:
        """Of the sessions in question; where only one user is, those of the session and of that user."""
        target = self._target
        for token, own in list(self._history.sessions.items()):
            whole = token == target.token or own.session_id == target.session_id
            touched = own.session_id in self._sessions or any(a.session_token == token for a in attempts)
            for what, spell in own.changes:
                at_address = target.is_at(what.ip_address, what.udp_port)
                is_theirs = what.user_token is not None and (
                    what.user_token == target.token or any(user.token == what.user_token for user in self._users)
                )
                if whole or is_theirs or at_address or (touched and what.user_token is None):
                    yield Change(own.session_id, *what, spell.times, self._now - spell.last)

    # Facts --------------------------------------------------------------------------------------------------

    def _session_facts(self, session: Session) -> SessionFacts:
        lost = self._lost(session)
        drops = session.drops or {}
        return SessionFacts(
            session.session_id,
            session.token,
            tuple(self._user_facts(user, lost) for user in session.users.values()),
            len(session.players),
            sum(drops.get(verdict, 0) for verdict in _UNSENT),
        )

    def _lost(self, session: Session) -> Counter[tuple[Verdict, int]]:
        """How much DATA of whom was lost recently, by reason."""
        lost: Counter[tuple[Verdict, int]] = Counter()
        own = self._history.sessions.get(session.token)
        for what, spell in own.refusals if own is not None else ():
            if what.user_token is not None:
                lost[what.verdict, what.user_token] += spell.data
        return lost

    def _user_facts(self, user: User, lost: Counter[tuple[Verdict, int]]) -> UserFacts:
        bindings = (user.server_binding, user.client_binding)
        traffic = user.traffic
        return UserFacts(
            session_id=user.session.session_id,
            token=user.token,
            allowed_ip=user.ip_address,
            bindings=tuple(self._binding_facts(binding) for binding in bindings if binding is not None),
            datagrams_to_host=traffic.to_host_datagrams if traffic is not None else 0,
            datagrams_to_player=traffic.to_player_datagrams if traffic is not None else 0,
            lost_without_host=lost[Verdict.NO_HOST, user.token],
            lost_to_nobody=lost[Verdict.UNKNOWN_CONNECTION, user.token],
        )

    def _binding_facts(self, binding: Binding) -> BindingFacts:
        return BindingFacts(
            binding.port,
            binding.address[0],
            binding.address[1],
            self._now - binding.bound_at,
            max(0.0, self._now - self._table.presence.last_heard(binding)),
            self._kernel.conflicts(binding) if self._kernel is not None else 0,
        )
