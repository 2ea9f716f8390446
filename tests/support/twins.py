"""The relay under test and a naive one, told the same and compared after every step."""

from collections.abc import Iterator

import pytest

from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.events import Event, EventKind
from relayd.core.followers import Phase
from relayd.core.guesses import Guesses
from relayd.core.limits import Limits, RefusalLimiter
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from tests.support.naive_relay import NaiveRelay
from tests.support.relays import Events


class Twins:
    """Both, with one clock that is turned by hand.

    Args:
        limits: of both.
        most_sources: how many sources of guesses, and of refusals, both remember.
    """

    def __init__(self, limits: Limits, most_sources: int = 10_000) -> None:
        self.now = 100.0
        self.table = Table(limits, self._new_connection_id)
        self.engine = Engine(self.table)
        self.engine.guesses = Guesses(limits, most_sources)
        self.engine._refusals = RefusalLimiter(limits, most_sources)
        self.naive = NaiveRelay(limits, most_sources)
        self._ids = 0
        self._events = Events()
        self.table.followers.subscribe(Phase.READERS, self._events)
        self._datagrams = [[0] * len(Verdict) for _ in Port]
        self._bytes = [[0] * len(Verdict) for _ in Port]
        self._reconciling: tuple[Iterator[None], dict[str, SessionSpec], float] | None = None

    def _new_connection_id(self) -> int:
        """Every other time an id that is in use somewhere: the table has to notice where it may not take it."""
        self._ids += 1
        retired = {one for _, one in self.naive.retired}
        in_use = sorted({one for session in self.table.sessions.values() for one in session.players} - retired)
        return in_use[self._ids % len(in_use)] if in_use and self._ids % 2 else self._ids + 1000

    # Desired state

    @property
    def reconciling(self) -> bool:
        """Whether a snapshot is being applied step by step; until its end, no other change may be made."""
        return self._reconciling is not None

    def apply(self, sessions: list[SessionSpec]) -> None:
        self.table.apply(Snapshot.of(sessions), self.now)
        self.naive.apply({one.session_id: one for one in sessions}, self.now)

    def change(self, upserts: list[SessionSpec], removals: list[str]) -> None:
        change = Change(tuple(upserts), tuple(removals))
        twice = len({one.session_id for one in upserts}) < len(upserts)
        if twice or self.naive.contradicts(change):
            with pytest.raises(InvalidSessionsError):
                self.table.change(change, self.now)
        else:
            self.table.change(change, self.now)
            self.naive.change(change, self.now)

    def begin_to_reconcile(self, sessions: list[SessionSpec]) -> None:
        snapshot = Snapshot.of(sessions)
        self.naive.begin_snapshot(snapshot.sessions)
        self._reconciling = self.table.reconcile(snapshot, self.now), dict(snapshot.sessions), self.now
        self.reconcile_one_step()

    def reconcile_one_step(self) -> None:
        assert self._reconciling is not None
        steps, wanted, began_at = self._reconciling
        finished = next(steps, steps) is steps
        for session_id in {*self.naive.sessions, *wanted}:
            was, there = self.naive.sessions.get(session_id), self.table.sessions.get(session_id)
            if was is not None and (there is None or there.token != was.spec.token):
                assert session_id not in wanted or wanted[session_id].token != was.spec.token
                self.naive.remove(session_id, began_at)
            if there is not None:
                users = {user.token: user.ip_address for user in there.users.values()}
                desired = wanted.get(session_id)
                if desired is not None and (there.token, users) == (desired.token, dict(desired.users)):
                    self.naive.put(desired, began_at)
        if finished:
            self.naive.loaded = True
            self._reconciling = None
            expected = {one.session_id for one in wanted.values() if self.naive.wants(one)}
            assert self.table.sessions.keys() == expected

    # Datagrams

    def deliver(self, endpoint: Endpoint, datagram: bytes, source: Address) -> Action:
        expected = self.naive.receive(endpoint, datagram, source, self.now)
        action = self.engine.handle(endpoint, datagram, source, self.now)
        self._learn_connection_ids()
        assert action[:4] == (expected.verdict, expected.endpoint, expected.to, self.naive.sent(expected))
        assert len(action.datagram) <= len(datagram)
        if action.player is not None:
            assert action.player.user.session.token == int.from_bytes(datagram[4:8], "little")
        self._datagrams[endpoint.port][action.verdict] += 1
        self._bytes[endpoint.port][action.verdict] += len(datagram)
        return action

    def _learn_connection_ids(self) -> None:
        for session in self.table.sessions.values():
            for user in session.users.values():
                if user.connection_id:
                    self.naive.learn_connection_id((session.session_id, user.token), user.connection_id)
        assert not self.naive.to_be_renewed

    def set_own(self, ports: list[int], addresses: list[str]) -> None:
        """Where both relays themselves are reached."""
        self.engine.bad_sources.own_ports = self.naive.own_ports = ports
        self.engine.bad_sources.own_addresses = self.naive.own_addresses = addresses

    # Time

    def drain(self, draining: bool) -> None:
        self.engine.draining = self.naive.draining = draining

    def expire_all(self) -> None:
        while self.expire_within(2):
            pass

    def expire_within(self, budget: int) -> bool:
        self._events.clear()
        more = self.table.expire(self.now, budget)
        assert len(self._events) <= budget
        for event in self._events:
            self._follow_expiry(event)
        if not more:
            assert all(due > self.now for due in self.naive.deadlines())
            deadline = self.table.next_deadline()
            assert deadline is None or deadline > self.now
        return more

    def _follow_expiry(self, event: Event) -> None:
        session_id = event.session.session_id
        if event.kind is EventKind.SESSION_IDLE:
            due = self.naive.idle_due(session_id)
            assert due is not None
            assert due <= self.now
            self.naive.end_idle(session_id, self.now)
            return
        assert event.kind in (EventKind.USER_SILENT, EventKind.USER_DISPLACED)
        assert event.binding is not None
        for binding in self.naive.in_session(session_id):
            if binding.user == event.binding.user.token and binding.endpoint.port is event.binding.port:
                assert self.naive.binding_due(binding) <= self.now
                self.naive.unbind(binding, self.now)
                return
        raise AssertionError("the table unbound somebody who was not bound")

    # What holds after every step

    def check(self) -> None:
        self.sessions_and_users_are_those_wanted()
        self.everybody_is_bound_where_last_heard()
        self.counts_agree_with_a_recount()
        self.every_datagram_is_counted_once()
        self.the_next_deadline_is_not_too_late()

    def sessions_and_users_are_those_wanted(self) -> None:
        if self._reconciling is None:
            assert self.table.sessions.keys() == self.naive.sessions.keys()
        for session_id, naive in self.naive.sessions.items():
            session = self.table.sessions[session_id]
            assert self.table.by_token[naive.spec.token] is session
            assert {user.token: user.ip_address for user in session.users.values()} == dict(naive.spec.users)
            traffic = session.traffic()
            assert naive.forwarded == {
                "to_host": traffic.to_host_datagrams,
                "to_host_bytes": traffic.to_host_bytes,
                "to_player": traffic.to_player_datagrams,
                "to_player_bytes": traffic.to_player_bytes,
            }

    def everybody_is_bound_where_last_heard(self) -> None:
        bound = {
            (session.session_id, user.token, binding.endpoint, binding.address, binding.last_seen)
            for session in self.table.sessions.values()
            for user in session.users.values()
            for binding in (user.server_binding, user.client_binding)
            if binding is not None
        }
        naive = {(one.session_id, one.user, one.endpoint, one.address, one.last_seen) for one in self.naive.bindings}
        assert bound == naive

    def counts_agree_with_a_recount(self) -> None:
        sessions = self.table.sessions.values()
        assert len(self.table.by_token) == len(self.table.sessions)
        assert self.table.users == sum(len(session.users) for session in sessions)
        for port in Port:
            bound = [one for one in self.naive.bindings if one.endpoint.port is port]
            assert self.table.bound[port] == len(bound)
        for session in sessions:
            assert session.bound == len(self.naive.in_session(session.session_id))
            hosts = [user.server_binding for user in session.users.values() if user.server_binding is not None]
            assert hosts == ([session.host] if session.host is not None else [])
            players = {user.connection_id: user for user in session.users.values() if user.connection_id}
            assert session.players == players

    def every_datagram_is_counted_once(self) -> None:
        assert self.engine.counters.datagrams == self._datagrams
        assert self.engine.counters.bytes == self._bytes

    def the_next_deadline_is_not_too_late(self) -> None:
        deadline = self.table.next_deadline()
        due = min(self.naive.deadlines(), default=None)
        assert due is None or (deadline is not None and deadline <= due)
