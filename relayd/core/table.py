"""The session table: who may talk, who is bound where, and when that ends.

One owner changes it. Desired state is applied as a diff that leaves alone what did not change; whatever ends is
found by looking only at the heads of a few heaps, so that expiry costs about the same for ten users and a million.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from relayd.core.bad_sources import BadSources
from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.counters import Traffic
from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot, check_size
from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.events import Event, EventKind
from relayd.core.followers import Followers
from relayd.core.history import History
from relayd.core.host_policy import HostPolicy
from relayd.core.limits import Limits
from relayd.core.mappings import DOUBT_SECONDS, Doubt, Mappings
from relayd.core.meter import Meter
from relayd.core.presence import Presence
from relayd.core.probation import CONTESTED_SECONDS, Former, Place, Probation, moved
from relayd.core.session import Binding, Session, User
from relayd.core.wire import Port

TOMBSTONE_SECONDS = 60.0
"""How long ended sessions and revoked users are remembered, so that players are told what became of them."""
_MOST_TOMBSTONES = 100_000
_STALE_ENTRIES = 1024
"""A heap is cleared of stale entries once they outnumber the live ones by this many."""


class Table:
    """Sessions by id and by token.

    Args:
        limits: timeouts and policies.
        new_connection_id: gives a random id of 1 to 2³¹-1, from a source that nobody can predict.
        followers: told of each change, after it was made.
    """

    def __init__(
        self, limits: Limits, new_connection_id: Callable[[], int], followers: Followers | None = None
    ) -> None:
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self.by_token: dict[int, Session] = {}
        self.loaded = False
        """Whether a desired state was ever applied; before that, nobody is known to be unknown."""
        self.users = 0
        self.edition = 0
        """Counts sessions and users that were added or removed."""
        self.bound = [0] * len(Port)
        """``bound[port]``: how many users are bound there."""
        self.active_sessions = 0
        """Sessions with somebody bound."""
        self.followers = followers if followers is not None else Followers()
        self.bad_sources = BadSources(limits)
        """Where nobody is bound."""
        self.presence = Presence()
        """When bindings were last heard, by whichever engine."""
        self.watched: set[Session] = set()
        """Sessions of which every datagram has to go through the engine: no other engine forwards for them."""
        self.history = History(self.by_token)
        """What changed and what was refused recently."""
        self._user_rates = [limits.user_rate(port) for port in Port]
        self._session_rate = limits.session_rate
        self._new_connection_id = new_connection_id
        self._silence: list[tuple[float, int, Binding]] = []
        """Heap of when to look whether a binding was heard; the number only keeps bindings from being compared."""
        self._mappings = Mappings()
        """Players by where they are bound."""
        self._idleness: list[tuple[float, int, Session]] = []
        """Heap of when to look whether a session is still empty."""
        self._numbers = count()
        self._tombstones: OrderedDict[int, float] = OrderedDict()
        """Session token → when it is forgotten, oldest first."""
        self._ended: dict[str, int] = {}
        """Id → token of sessions that ended here while their source still names them: not to be revived by it."""

    # Desired state ------------------------------------------------------------------------------------------

    def apply(self, snapshot: Snapshot, now: float) -> None:
        """Makes the table hold these sessions and no others, at once. See `reconcile`."""
        for _ in self.reconcile(snapshot, now):
            pass

    def reconcile(self, snapshot: Snapshot, now: float) -> Iterator[None]:
        """Makes the table hold these sessions and no others, and pauses after each.

        Takes the snapshot apart as it goes, because to free a large one at once would take as long as to apply it.
        What is to go goes first, so that a token can pass from one session to another. Between the steps datagrams
        may be handled and sessions may expire; another change may not be made before the end.
        """
        wanted = snapshot.sessions
        self._ended = {key: token for key, token in self._ended.items() if key in wanted and wanted[key].token == token}
        for session in list(self.sessions.values()):
            spec = wanted.get(session.session_id)
            if (spec is None or spec.token != session.token) and session.session_id in self.sessions:
                self._end_session(session, EventKind.SESSION_REMOVED, now)
            yield
        for session_id in list(wanted):
            self._upsert(wanted.pop(session_id), now)
            yield
        self.loaded = True

    def change(self, change: Change, now: float) -> None:
        """Adds, updates and removes these sessions and leaves all others alone.

        Raises:
            InvalidSessionsError: an upsert has a token that another session keeps, or there would be too many; nothing
                was changed.
        """
        self._check_size(change)
        gone = {*change.removals, *(spec.session_id for spec in change.upserts)}
        Snapshot.of(change.upserts)
        for spec in change.upserts:
            holder = self.by_token.get(spec.token)
            if holder is not None and holder.session_id not in gone:
                raise InvalidSessionsError(
                    f"sessions {holder.session_id} and {spec.session_id} have the same authorization_token;"
                    " give each session its own"
                )
        replaced = [spec.session_id for spec in change.upserts if self._token_of(spec.session_id) != spec.token]
        for session_id in (*change.removals, *replaced):
            self._ended.pop(session_id, None)
            session = self.sessions.get(session_id)
            if session is not None:
                self._end_session(session, EventKind.SESSION_REMOVED, now)
        for spec in change.upserts:
            self._upsert(spec, now)

    def _check_size(self, change: Change) -> None:
        before = [session for one in change.upserts if (session := self.sessions.get(one.session_id)) is not None]
        users = sum(len(one.users) for one in change.upserts) - sum(len(session.users) for session in before)
        check_size(len(self.sessions) + len(change.upserts) - len(before), self.users + users)

    def _token_of(self, session_id: str) -> int | None:
        session = self.sessions.get(session_id)
        return session.token if session is not None else self._ended.get(session_id)

    def _upsert(self, spec: SessionSpec, now: float) -> None:
        if self._ended.get(spec.session_id) == spec.token:
            return
        session = self.sessions.get(spec.session_id)
        if session is None:
            session = Session(spec.session_id, spec.token, now)
            if any(self._session_rate):
                session.meter = Meter(self._session_rate)
            self.sessions[spec.session_id] = self.by_token[spec.token] = session
            self._tombstones.pop(spec.token, None)
            self._await_idleness(session, now)
            self.edition += 1
            self._tell(Event(EventKind.SESSION_ADDED, session), now)
        session.declared_host = spec.users[0].token if spec.users else None
        users = session.users
        for token in users.keys() - {user.token for user in spec.users}:
            self._revoke(users[token], now)
        for user_spec in spec.users:
            user = users.get(user_spec.token)
            if user is None:
                user = users[user_spec.token] = User(session, user_spec.token, user_spec.ip_address)
                self.users += 1
                self.edition += 1
                self.followers.tell_of_user(user, True)
            elif user.ip_address != user_spec.ip_address:
                user.ip_address = user_spec.ip_address
                for binding in (user.server_binding, user.client_binding):
                    if binding is not None:
                        self._tell(Event(EventKind.USER_NAMED, session, binding), now)
        if session.host is not None and not self.may_host(session.host.user):
            self.replace_host(session.host, now)

    def _revoke(self, user: User, now: float) -> None:
        session = user.session
        if user.server_binding is user.client_binding is None:
            self.history.revoked(user, now)
        for binding in (user.server_binding, user.client_binding):
            if binding is not None:
                self._unbind(binding, EventKind.USER_REVOKED, now)
        session.players.pop(user.connection_id, None)
        if user.traffic is not None:
            if session.revoked_traffic is None:
                session.revoked_traffic = Traffic()
            session.revoked_traffic.add(user.traffic)
        del session.users[user.token]
        session.remember_revoked(user.token, now + TOMBSTONE_SECONDS)
        self.users -= 1
        self.edition += 1
        self.followers.tell_of_user(user, False)

    def _end_session(self, session: Session, kind: EventKind, now: float) -> None:
        if session.bound:
            for user in session.users.values():
                for binding in (user.server_binding, user.client_binding):
                    if binding is not None:
                        self._unbind(binding, EventKind.USER_REVOKED, now)
        del self.sessions[session.session_id]
        del self.by_token[session.token]
        self.users -= len(session.users)
        self.edition += 1
        self.watched.discard(session)
        # Not there yet, for a session that begins takes it out: so it is the newest.
        self._tombstones[session.token] = now + TOMBSTONE_SECONDS
        if len(self._tombstones) > _MOST_TOMBSTONES:
            self._tombstones.popitem(last=False)
        self._tell(Event(kind, session), now)
        for user in session.users.values():
            self.followers.tell_of_user(user, False)
        # Users and session point at each other: without this only the garbage collector would find them.
        session.users.clear()
        session.players.clear()

    def remember_ended(self, session_token: int, forgotten_at: float) -> None:
        """Restores the predecessor's memory of a session that ended; to be called newest first.

        Sessions that ended in this process ended later than all of these.
        """
        if session_token not in self.by_token and session_token not in self._tombstones:
            self._tombstones[session_token] = forgotten_at
            self._tombstones.move_to_end(session_token, last=False)

    def watch(self, session: Session, now: float) -> None:
        """Has the engine see every datagram of a session of this table."""
        if session not in self.watched:
            self.watched.add(session)
            self._tell(Event(EventKind.WATCH_BEGAN, session), now)

    def unwatch(self, session: Session, now: float) -> None:
        """Ends that; a session that is not watched, or is gone, stays as it is."""
        if session in self.watched:
            self.watched.remove(session)
            self._tell(Event(EventKind.WATCH_ENDED, session), now)

    def only_engine_forwards(self, binding: Binding) -> bool:
        """Whether all of its datagrams must go through the engine, which alone keeps the rate of a session, sees what
        is watched, and decides whether a player's connection goes on.
        """
        session = binding.user.session
        return binding.connection_undecided or session.meter is not None or session in self.watched

    def ended_recently(self, session_token: int, now: float) -> bool:
        """Whether a session with this token ended a short while ago."""
        forgotten_at = self._tombstones.get(session_token)
        return forgotten_at is not None and now < forgotten_at

    def _tell(self, event: Event, now: float) -> None:
        self.history.changed(event, now)
        self.followers.tell(event)

    # Bindings -----------------------------------------------------------------------------------------------

    def bind(self, user: User, endpoint: Endpoint, address: Address, now: float, local: Local | None = None) -> Binding:
        """Binds a user that is not bound on that port. On the server port this makes it the host."""
        undecided = endpoint.port is Port.CLIENT and self._choose_connection_id(user)
        binding = self._bind(user, endpoint, address, now, local, undecided=undecided)
        self._mappings.doubt_others(binding, now)
        return binding

    def _bind(
        self, user: User, endpoint: Endpoint, address: Address, now: float, local: Local | None, *, undecided: bool
    ) -> Binding:
        binding = Binding(user, endpoint, address, now)
        binding.local = local
        binding.connection_undecided = undecided
        rate = self._user_rates[endpoint.port]
        if any(rate):
            binding.meter = Meter(rate)
        session = user.session
        user.was_at(address[0])
        if endpoint.port is Port.SERVER:
            user.server_binding = session.host = binding
        else:
            user.client_binding = binding
        self._mappings.add(binding)
        if session.bound == 0:
            self.active_sessions += 1
        session.bound += 1
        self.bound[endpoint.port] += 1
        if len(self._silence) > 2 * sum(self.bound) + _STALE_ENTRIES:
            self._silence = [one for one in self._silence if one[2].user.binding_on(one[2].port) is one[2]]
            heapify(self._silence)
        heappush(self._silence, (now + self.limits.user_timeout, next(self._numbers), binding))
        self._tell(Event(EventKind.USER_BOUND, session, binding), now)
        return binding

    def move(
        self, binding: Binding, endpoint: Endpoint, address: Address, now: float, local: Local | None = None
    ) -> None:
        """Moves a binding to another address, on probation unless it is the one that the user is authorized with."""
        user = binding.user
        former = Former(binding.place, user.connection_id)
        binding.probation = None if user.is_named(address[0]) else moved(binding.probation_at(now), former, now)
        self._put(binding, Place(endpoint, address), now, local)
        if endpoint.port is Port.CLIENT and self._choose_connection_id(user):
            binding.connection_undecided = True
        self._tell(Event(EventKind.USER_MOVED, user.session, binding), now)

    def move_back(
        self, binding: Binding, probation: Probation, former: Former, now: float, local: Local | None = None
    ) -> None:
        """Moves a binding to where it was before, as the host knew it there. From then on its place is contested."""
        user = binding.user
        user.contested_until = now + CONTESTED_SECONDS
        binding.probation = probation.older_than(former)
        self._put(binding, former.place, now, local)
        if binding.port is Port.CLIENT:
            binding.connection_undecided = False
            if former.connection_id not in user.session.players:
                user.set_connection_id(former.connection_id)
        self._tell(Event(EventKind.USER_RETURNED, user.session, binding), now)

    def _put(self, binding: Binding, place: Place, now: float, local: Local | None) -> None:
        self._mappings.remove(binding)
        binding.endpoint, binding.address = place
        binding.last_seen = now
        binding.local = local
        binding.user.was_at(place.address[0])
        self._mappings.add(binding)
        self._mappings.doubt_others(binding, now)

    def leave_relays(self, relays: Collection[tuple[str, int]], now: float) -> Iterator[None]:
        """Has nobody bound any more at these sockets of other relays, and pauses after each session.

        Args:
            relays: IP address and port of each, instead of those told before.
            now: seconds.
        """
        self.bad_sources.relays = relays
        for session in [one for one in self.sessions.values() if one.bound]:
            for binding in list(session.bindings()):
                if self.bad_sources.is_relay(binding.address):
                    self._unbind(binding, EventKind.USER_AT_RELAY, now)
            yield

    def may_host(self, user: User) -> bool:
        """Whether a user may be host at all."""
        return self.limits.host_policy is not HostPolicy.STRICT or user.token == user.session.declared_host

    def takes_over(self, user: User) -> bool:
        """Whether a user is host whenever it comes, whoever is host by then."""
        return self.limits.host_policy is not HostPolicy.ANY and user.token == user.session.declared_host

    def replace_host(self, host: Binding, now: float) -> None:
        """Unbinds a host, for another user to take its place."""
        self._unbind(host, EventKind.HOST_REPLACED, now)

    def decide_connection(self, binding: Binding, *, opens_connection: bool) -> None:
        """Settles, by its first DATA, whether a player at a new address began a new connection."""
        binding.connection_undecided = False
        if opens_connection:
            self._renew_connection_id(binding.user)
        kind = EventKind.CONNECTION_RENEWED if opens_connection else EventKind.CONNECTION_KEPT
        self._tell(Event(kind, binding.user.session, binding), binding.last_seen)

    def restore(
        self,
        user: User,
        endpoint: Endpoint,
        address: Address,
        *,
        connection_id: int,
        now: float,
        undecided: bool = False,
        local: Local | None = None,
    ) -> Binding:
        """Binds a user as it was bound before a restart, under the id that the host knows it by.

        Args:
            user: one that is not bound on that port; on the server port, in a session without a host.
            endpoint: where it was bound.
            address: the peer.
            connection_id: of a player, and of no other in the session; 0 for a host.
            now: seconds.
            undecided: see `Binding.connection_undecided`.
            local: see `Binding.local`.
        """
        if connection_id:
            user.set_connection_id(connection_id)
        return self._bind(user, endpoint, address, now, local, undecided=undecided)

    def _choose_connection_id(self, user: User) -> bool:
        """For a player at a new address: keeps its id or changes it; True if its first DATA has to decide."""
        if user.connection_id == 0 or self.limits.connection_id_policy is ConnectionIdPolicy.PER_ADDRESS:
            self._renew_connection_id(user)
            return False
        return self.limits.connection_id_policy is ConnectionIdPolicy.KCP

    def _renew_connection_id(self, user: User) -> None:
        connection_id = self._new_connection_id()
        while connection_id in user.session.players:
            connection_id = self._new_connection_id()
        user.set_connection_id(connection_id)

    def _unbind(self, binding: Binding, kind: EventKind, now: float) -> None:
        user = binding.user
        session = user.session
        if binding.port is Port.SERVER:
            user.server_binding = None
            session.host = None
        else:
            user.client_binding = None
        self._mappings.remove(binding)
        session.bound -= 1
        self.bound[binding.port] -= 1
        # A reconciliation goes by the time at which it began: anybody may have been heard since, not only the last one.
        session.empty_since = max(session.empty_since, now, self.presence.last_heard(binding))
        if session.bound == 0:
            self.active_sessions -= 1
            self._await_idleness(session, session.empty_since)
        self._tell(Event(kind, session, binding), now)

    # Time ---------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `expire` has something to look at next; None while there is nothing."""
        heads = [queue[0][0] for queue in (self._silence, self._idleness) if queue]
        if self._tombstones:
            heads.append(next(iter(self._tombstones.values())))
        doubted = self._mappings.next_due()
        if doubted is not None:
            heads.append(doubted)
        return min(heads, default=None)

    def expire(self, now: float, budget: int) -> bool:
        """Ends what is due, looking at no more than ``budget`` entries. True when that was not enough.

        An entry that was heard since it was queued goes back with its new deadline, so that a datagram costs nothing.
        """
        for _ in range(budget):
            if self._silence and self._silence[0][0] <= now:
                self._check_silence(heappop(self._silence)[2], now)
            elif (doubted := self._mappings.next_due()) is not None and doubted <= now:
                self._check_doubt(self._mappings.pop(), now)
            elif self._idleness and self._idleness[0][0] <= now:
                self._check_idleness(heappop(self._idleness)[2], now)
            elif self._tombstones and next(iter(self._tombstones.values())) <= now:
                self._tombstones.popitem(last=False)
            else:
                return False
        deadline = self.next_deadline()
        return deadline is not None and deadline <= now

    def _check_silence(self, binding: Binding, now: float) -> None:
        if binding.user.binding_on(binding.port) is not binding:
            return
        deadline = self.presence.silence_begins(binding, now) + self.limits.user_timeout
        if deadline > now:
            heappush(self._silence, (deadline, next(self._numbers), binding))
        else:
            self._unbind(binding, EventKind.USER_SILENT, now)

    def _check_doubt(self, doubt: Doubt, now: float) -> None:
        """Unbinds a player who was not heard where another user came to: what it had there is the other one's."""
        binding = doubt.binding
        if binding.user.binding_on(binding.port) is not binding or binding.place != doubt.place:
            return
        if self.presence.last_heard(binding) > doubt.since:
            return
        # As for silence: what came in a pause of the process may still wait in its sockets.
        due = max(doubt.since, self.presence.silence_begins(binding, now)) + DOUBT_SECONDS
        if due > now:
            self._mappings.look_again(doubt, due)
        else:
            self._unbind(binding, EventKind.USER_DISPLACED, now)

    def _await_idleness(self, session: Session, now: float) -> None:
        if self.limits.session_idle_timeout and not session.waits_for_idle:
            if len(self._idleness) > 2 * len(self.sessions) + _STALE_ENTRIES:
                self._idleness = [one for one in self._idleness if self.sessions.get(one[2].session_id) is one[2]]
                heapify(self._idleness)
            session.waits_for_idle = True
            heappush(self._idleness, (now + self.limits.session_idle_timeout, next(self._numbers), session))

    def _check_idleness(self, session: Session, now: float) -> None:
        session.waits_for_idle = False
        if self.sessions.get(session.session_id) is not session or session.bound:
            return
        deadline = session.empty_since + self.limits.session_idle_timeout
        if deadline > now:
            session.waits_for_idle = True
            heappush(self._idleness, (deadline, next(self._numbers), session))
        else:
            self._ended[session.session_id] = session.token
            self._end_session(session, EventKind.SESSION_IDLE, now)
