"""The relay against a naive one, over any order of sessions, datagrams, time and expiry."""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.events import Event, EventKind
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.support.naive_relay import NaiveBinding, NaiveRelay

ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.SERVER, 1), Endpoint(Port.CLIENT, 2), Endpoint(Port.CLIENT, 3)]
ADDRESSES: list[Address] = [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1), ("10.0.0.3", 1)]
SESSION_IDS = ["a", "b", "c"]
SESSION_TOKENS = [101, 102, 103, 104]
USERS = [1, 2, 3, 4]
PAYLOADS = [b"x", b"\x01\0\0\0\0opens", b"\x01\x51\0\0\0goes on", b"\x01\0\0\0", b"\x01" * 1191]

user_specs = st.lists(
    st.builds(UserSpec, st.sampled_from(USERS), st.sampled_from(["10.0.0.1", "10.0.0.2", None])),
    unique_by=lambda user: user.token,
)
session_specs = st.builds(
    SessionSpec, st.sampled_from(SESSION_IDS), st.sampled_from(SESSION_TOKENS), user_specs.map(tuple)
)
wanted_sessions = st.lists(session_specs, unique_by=(lambda one: one.session_id, lambda one: one.token))
payloads = st.one_of(st.sampled_from(PAYLOADS), st.binary(max_size=20))


class RelayMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(ConnectionIdPolicy),
        pin_ip=st.sampled_from([False, False, True]),
        max_bound_users=st.sampled_from([0, 0, 3]),
        rebind_after=st.sampled_from([0.5, 0.0]),
        session_idle_timeout=st.sampled_from([20.0, 20.0, 0.0]),
        sessions=wanted_sessions,
        loaded=st.sampled_from([True, True, False]),
    )
    def start(
        self,
        policy: ConnectionIdPolicy,
        pin_ip: bool,
        max_bound_users: int,
        rebind_after: float,
        session_idle_timeout: float,
        sessions: list[SessionSpec],
        loaded: bool,
    ) -> None:
        limits = Limits(
            user_timeout=8,
            host_timeout=3,
            rebind_after=rebind_after,
            session_idle_timeout=session_idle_timeout,
            pin_ip=pin_ip,
            connection_id_policy=policy,
            max_bound_users=max_bound_users,
            refusals_per_second=1_000_000,
            refusals_per_source_per_second=1_000_000,
        )
        self.now = 100.0
        self.ids = 0
        self.events: list[Event] = []
        self.table = Table(limits, self.new_connection_id, self.events.append)
        self.engine = Engine(self.table)
        self.naive = NaiveRelay(limits)
        self.counted: dict[tuple[Port, Verdict], tuple[int, int]] = {}
        self.reconciling: tuple[Iterator[None], dict[str, SessionSpec], float] | None = None
        if loaded:
            self.apply(sessions)

    def new_connection_id(self) -> int:
        """Every other time an id that is in use somewhere: the table has to notice where it may not take it."""
        self.ids += 1
        retired = {one for _, one in self.naive.retired}
        in_use = sorted({one for session in self.table.sessions.values() for one in session.players} - retired)
        return in_use[self.ids % len(in_use)] if in_use and self.ids % 2 else self.ids + 1000

    # Desired state

    @precondition(lambda self: self.reconciling is None)
    @rule(sessions=wanted_sessions)
    def apply(self, sessions: list[SessionSpec]) -> None:
        self.table.apply(Snapshot.of(sessions), self.now)
        self.naive.apply({one.session_id: one for one in sessions}, self.now)

    @precondition(lambda self: self.reconciling is None)
    @rule()
    def apply_what_is_there(self) -> None:
        self.apply([session.spec for session in self.naive.sessions.values()])

    @precondition(lambda self: self.reconciling is None)
    @rule(data=st.data())
    def source_still_names_what_ended(self, data: st.DataObject) -> None:
        there = [session.spec for session in self.naive.sessions.values()]
        taken = {one.token for one in there}
        ended = [
            SessionSpec(session_id, token, (UserSpec(1, None),))
            for session_id, token in self.naive.not_to_be_revived.items()
            if token not in taken and session_id not in self.naive.sessions
        ]
        unique = {one.token: one for one in ended}.values()
        if data.draw(st.booleans()):
            self.apply([*there, *unique])
        else:
            self.change(list(unique), [])

    @precondition(lambda self: self.reconciling is None)
    @rule(upserts=st.lists(session_specs, max_size=2), removals=st.lists(st.sampled_from(SESSION_IDS), max_size=2))
    def change(self, upserts: list[SessionSpec], removals: list[str]) -> None:
        change = Change(tuple(upserts), tuple(removals))
        twice = len({one.session_id for one in upserts}) < len(upserts)
        if twice or self.naive.contradicts(change):
            with pytest.raises(InvalidSessionsError):
                self.table.change(change, self.now)
        else:
            self.table.change(change, self.now)
            self.naive.change(change, self.now)

    @precondition(lambda self: self.reconciling is None)
    @rule(sessions=wanted_sessions)
    def begin_to_reconcile(self, sessions: list[SessionSpec]) -> None:
        snapshot = Snapshot.of(sessions)
        self.naive.begin_snapshot(snapshot.sessions)
        self.reconciling = self.table.reconcile(snapshot, self.now), dict(snapshot.sessions), self.now
        self.reconcile_one_step()

    @precondition(lambda self: self.reconciling is not None)
    @rule()
    def reconcile_one_step(self) -> None:
        assert self.reconciling is not None
        steps, wanted, began_at = self.reconciling
        finished = next(steps, steps) is steps
        for session_id in SESSION_IDS:
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
            self.reconciling = None
            expected = {one.session_id for one in wanted.values() if self.naive.wants(one)}
            assert self.table.sessions.keys() == expected

    # Datagrams

    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        source=st.sampled_from(ADDRESSES),
        user=st.sampled_from([*USERS, 9]),
        session=st.sampled_from(SESSION_TOKENS),
        rest=st.one_of(st.just(b"\x01"), payloads.map(lambda payload: b"\x02" + payload), st.binary(max_size=1300)),
    )
    def anyone_sends(self, endpoint: Endpoint, source: Address, user: int, session: int, rest: bytes) -> None:
        self.deliver(endpoint, encode_ping(user, session)[:8] + rest, source)

    @precondition(lambda self: any(session.spec.users for session in self.naive.sessions.values()))
    @rule(data=st.data(), endpoint=st.sampled_from(ENDPOINTS[1:]), source=st.sampled_from(ADDRESSES), payload=payloads)
    def a_known_user_sends(self, data: st.DataObject, endpoint: Endpoint, source: Address, payload: bytes) -> None:
        pairs = [(user.token, one.spec.token) for one in self.naive.sessions.values() for user in one.spec.users]
        user, session = data.draw(st.sampled_from(pairs))
        if data.draw(st.booleans()):
            self.deliver(endpoint, encode_ping(user, session), source)
        elif endpoint.port is Port.CLIENT:
            self.deliver(endpoint, encode_player_data(user, session, payload), source)
        else:
            self.deliver(endpoint, encode_host_data(user, session, 1001, payload), source)

    @precondition(lambda self: self.naive.bindings)
    @rule(data=st.data(), payload=payloads, ping=st.booleans())
    def a_bound_user_sends(self, data: st.DataObject, payload: bytes, ping: bool) -> None:
        binding: NaiveBinding = data.draw(st.sampled_from(self.naive.bindings))
        session = self.naive.sessions[binding.session_id].spec.token
        if ping:
            datagram = encode_ping(binding.user, session)
        elif binding.endpoint.port is Port.CLIENT:
            datagram = encode_player_data(binding.user, session, payload)
        else:
            known = sorted({*self.naive.connection_ids.values(), *(one for _, one in self.naive.retired), 0, -1})
            datagram = encode_host_data(binding.user, session, data.draw(st.sampled_from(known)), payload)
        self.deliver(binding.endpoint, datagram, binding.address)

    def deliver(self, endpoint: Endpoint, datagram: bytes, source: Address) -> None:
        expected = self.naive.receive(endpoint, datagram, source, self.now)
        action = self.engine.handle(endpoint, datagram, source, self.now)
        self.learn_connection_ids()
        sent = expected.before_id
        if expected.connection_id_of is not None:
            sent += self.naive.connection_ids[expected.connection_id_of].to_bytes(4, "little") + expected.after_id
        assert action[:4] == (expected.verdict, expected.endpoint, expected.to, sent)
        assert len(action.datagram) <= len(datagram)
        if action.player is not None:
            assert action.player.user.session.token == int.from_bytes(datagram[4:8], "little")
        key = endpoint.port, action.verdict
        datagrams, size = self.counted.get(key, (0, 0))
        self.counted[key] = datagrams + 1, size + len(datagram)

    def learn_connection_ids(self) -> None:
        for session in self.table.sessions.values():
            for user in session.users.values():
                if user.connection_id:
                    self.naive.learn_connection_id((session.session_id, user.token), user.connection_id)
        assert not self.naive.to_be_renewed

    # Time

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 3.0, 7.75, 8.0, 20.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.naive.bindings)
    @rule(data=st.data(), rounds=st.integers(1, 8))
    def somebody_plays_for_some_time(self, data: st.DataObject, rounds: int) -> None:
        playing: NaiveBinding = data.draw(st.sampled_from(self.naive.bindings))
        for _ in range(rounds):
            if playing in self.naive.bindings:
                session = self.naive.sessions[playing.session_id].spec.token
                self.deliver(playing.endpoint, encode_ping(playing.user, session), playing.address)
            self.time_passes(3.0)
            self.expire_all()

    @rule(draining=st.booleans())
    def drain(self, draining: bool) -> None:
        self.engine.draining = self.naive.draining = draining

    @rule(budget=st.integers(1, 3))
    def expire_a_little(self, budget: int) -> None:
        self.expire_within(budget)

    @rule()
    def expire_all(self) -> None:
        while self.expire_within(2):
            pass

    def expire_within(self, budget: int) -> bool:
        self.events.clear()
        more = self.table.expire(self.now, budget)
        assert len(self.events) <= budget
        for event in self.events:
            self.follow_expiry(event)
        if not more:
            assert all(due > self.now for due in self.naive.deadlines())
            deadline = self.table.next_deadline()
            assert deadline is None or deadline > self.now
        return more

    def follow_expiry(self, event: Event) -> None:
        session_id = event.session.session_id
        if event.kind is EventKind.SESSION_IDLE:
            due = self.naive.idle_due(session_id)
            assert due is not None
            assert due <= self.now
            self.naive.end_idle(session_id, self.now)
            return
        assert event.kind is EventKind.USER_SILENT
        assert event.binding is not None
        for binding in self.naive.in_session(session_id):
            if binding.user == event.binding.user.token and binding.endpoint.port is event.binding.port:
                assert self.naive.binding_due(binding) <= self.now
                self.naive.unbind(binding, self.now)
                return
        raise AssertionError("the table unbound somebody who was not bound")

    # What holds after every step

    @invariant()
    def sessions_and_users_are_those_wanted(self) -> None:
        if self.reconciling is None:
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

    @invariant()
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

    @invariant()
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

    @invariant()
    def every_datagram_is_counted_once(self) -> None:
        for port in Port:
            for verdict in Verdict:
                counted = self.engine.counters.datagrams[port][verdict], self.engine.counters.bytes[port][verdict]
                assert counted == self.counted.get((port, verdict), (0, 0))

    @invariant()
    def the_next_deadline_is_not_too_late(self) -> None:
        deadline = self.table.next_deadline()
        due = min(self.naive.deadlines(), default=None)
        assert due is None or (deadline is not None and deadline <= due)


TestRelayMachine = RelayMachine.TestCase
# To shrink a failure takes minutes and finds little: the steps are printed as they were.
TestRelayMachine.settings = settings(max_examples=150, stateful_step_count=60, phases=[Phase.explicit, Phase.generate])
