"""The relay against a naive one, over any order of sessions, datagrams, time and expiry."""

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.limits import Limits
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.support.naive_relay import NaiveBinding
from tests.support.twins import Twins

ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.SERVER, 1), Endpoint(Port.CLIENT, 2), Endpoint(Port.CLIENT, 3)]
ADDRESSES: list[Address] = [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1), ("10.0.0.3", 1)]
NETWORK: list[Address] = [("2001:db8::1", 1, 0, 0), ("2001:db8::2", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0)]
"""The first two are in one /64."""
OWN_IP, OWN_PORTS = "10.0.0.9", [4000, 4001]
BAD: list[Address] = [(OWN_IP, 4000), ("10.0.0.1", 0), ("224.0.0.1", 1), ("255.255.255.255", 1), ("0.1.2.3", 1)]
BAD += [("::", 1, 0, 0), ("ff02::1", 1, 0, 0)]
FINE: list[Address] = [(OWN_IP, 5), ("10.0.0.1", 4000), ("223.255.255.255", 1)]
"""Which look alike."""
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


RATES: list[dict[str, int]] = [
    {},
    {"user_datagrams_per_second": 4, "host_datagrams_per_second": 2},
    {"user_bytes_per_second": 1280, "host_bytes_per_second": 2560},
    {"session_datagrams_per_second": 8},
    {"session_datagrams_per_second": 4, "user_datagrams_per_second": 2},
    {"session_bytes_per_second": 2560, "user_datagrams_per_second": 8},
]
"""Per second; all give times that are exact in a double."""
GUESSES: list[dict[str, int]] = [
    {"guesses_per_second": 1_000_000, "guesses_per_source_per_second": 1_000_000},
    {"guesses_per_second": 4, "guesses_per_source_per_second": 2},
    {"guesses_per_second": 2, "guesses_per_source_per_second": 4},
    {"guesses_per_second": 1, "guesses_per_source_per_second": 1},
]
REFUSALS: list[dict[str, int]] = [
    {"refusals_per_second": 1_000_000, "refusals_per_source_per_second": 1_000_000},
    {"refusals_per_second": 4, "refusals_per_source_per_second": 2},
    {"refusals_per_second": 2, "refusals_per_source_per_second": 4},
    {"refusals_per_second": 0},
    {"refusals_per_source_per_second": 0},
]


class RelayMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(ConnectionIdPolicy),
        pin_ip=st.sampled_from([False, False, True]),
        max_bound_users=st.sampled_from([0, 0, 3]),
        rebind_after=st.sampled_from([0.5, 0.0]),
        session_idle_timeout=st.sampled_from([20.0, 20.0, 0.0]),
        bounds=st.tuples(st.sampled_from(RATES), st.sampled_from(GUESSES), st.sampled_from(REFUSALS)),
        most_sources=st.sampled_from([10_000, 2, 1]),
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
        bounds: tuple[dict[str, int], ...],
        most_sources: int,
        sessions: list[SessionSpec],
        loaded: bool,
    ) -> None:
        rates, guesses, refusals = bounds
        policies = {
            "user_timeout": 8,
            "host_timeout": 3,
            "rebind_after": rebind_after,
            "session_idle_timeout": session_idle_timeout,
            "pin_ip": pin_ip,
            "connection_id_policy": policy,
            "max_bound_users": max_bound_users,
        }
        self.twins = Twins(Limits.model_validate({**policies, **rates, **guesses, **refusals}), most_sources)
        self.twins.set_own(OWN_PORTS, [OWN_IP])
        if loaded:
            self.twins.apply(sessions)

    # Desired state

    @precondition(lambda self: not self.twins.reconciling)
    @rule(sessions=wanted_sessions)
    def apply(self, sessions: list[SessionSpec]) -> None:
        self.twins.apply(sessions)

    @precondition(lambda self: not self.twins.reconciling)
    @rule()
    def apply_what_is_there(self) -> None:
        self.apply([session.spec for session in self.twins.naive.sessions.values()])

    @precondition(lambda self: not self.twins.reconciling)
    @rule(data=st.data())
    def source_still_names_what_ended(self, data: st.DataObject) -> None:
        there = [session.spec for session in self.twins.naive.sessions.values()]
        taken = {one.token for one in there}
        ended = [
            SessionSpec(session_id, token, (UserSpec(1, None),))
            for session_id, token in self.twins.naive.not_to_be_revived.items()
            if token not in taken and session_id not in self.twins.naive.sessions
        ]
        unique = {one.token: one for one in ended}.values()
        if data.draw(st.booleans()):
            self.apply([*there, *unique])
        else:
            self.change(list(unique), [])

    @precondition(lambda self: not self.twins.reconciling)
    @rule(upserts=st.lists(session_specs, max_size=2), removals=st.lists(st.sampled_from(SESSION_IDS), max_size=2))
    def change(self, upserts: list[SessionSpec], removals: list[str]) -> None:
        self.twins.change(upserts, removals)

    @precondition(lambda self: not self.twins.reconciling)
    @rule(sessions=wanted_sessions)
    def begin_to_reconcile(self, sessions: list[SessionSpec]) -> None:
        self.twins.begin_to_reconcile(sessions)

    @precondition(lambda self: self.twins.reconciling)
    @rule()
    def reconcile_one_step(self) -> None:
        self.twins.reconcile_one_step()

    # Datagrams

    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        source=st.sampled_from([*ADDRESSES, *NETWORK, *BAD, *FINE]),
        user=st.sampled_from([*USERS, 9]),
        session=st.sampled_from(SESSION_TOKENS),
        rest=st.one_of(st.just(b"\x01"), payloads.map(lambda payload: b"\x02" + payload), st.binary(max_size=1300)),
    )
    def anyone_sends(self, endpoint: Endpoint, source: Address, user: int, session: int, rest: bytes) -> None:
        self.twins.deliver(endpoint, encode_ping(user, session)[:8] + rest, source)

    @precondition(lambda self: self.twins.naive.sessions)
    @rule(
        data=st.data(),
        sources=st.lists(st.sampled_from([*ADDRESSES[1:], *NETWORK]), min_size=1, max_size=12),
        spread_seconds=st.sampled_from([0.0, 0.125]),
    )
    def somebody_guesses(self, data: st.DataObject, sources: list[Address], spread_seconds: float) -> None:
        there = sorted(session.spec.token for session in self.twins.naive.sessions.values())
        session = data.draw(st.sampled_from(there))
        for user, source in enumerate(sources, 1000):
            self.twins.deliver(ENDPOINTS[2], encode_ping(user, session), source)
            self.twins.now += spread_seconds

    @precondition(lambda self: self.twins.naive.bindings)
    @rule(data=st.data(), times=st.integers(2, 12), payload=payloads)
    def somebody_floods(self, data: st.DataObject, times: int, payload: bytes) -> None:
        for _ in range(times):
            if self.twins.naive.bindings:
                self.a_bound_user_sends(data, payload, ping=False)

    @precondition(lambda self: any(session.spec.users for session in self.twins.naive.sessions.values()))
    @rule(
        data=st.data(),
        endpoint=st.sampled_from(ENDPOINTS[1:]),
        source=st.sampled_from(ADDRESSES + BAD[:2]),
        payload=payloads,
    )
    def a_known_user_sends(self, data: st.DataObject, endpoint: Endpoint, source: Address, payload: bytes) -> None:
        pairs = [(user.token, one.spec.token) for one in self.twins.naive.sessions.values() for user in one.spec.users]
        user, session = data.draw(st.sampled_from(pairs))
        if data.draw(st.booleans()):
            self.twins.deliver(endpoint, encode_ping(user, session), source)
        elif endpoint.port is Port.CLIENT:
            self.twins.deliver(endpoint, encode_player_data(user, session, payload), source)
        else:
            self.twins.deliver(endpoint, encode_host_data(user, session, 1001, payload), source)

    @precondition(lambda self: self.twins.naive.bindings)
    @rule(data=st.data(), payload=payloads, ping=st.booleans())
    def a_bound_user_sends(self, data: st.DataObject, payload: bytes, ping: bool) -> None:
        binding: NaiveBinding = data.draw(st.sampled_from(self.twins.naive.bindings))
        session = self.twins.naive.sessions[binding.session_id].spec.token
        if ping:
            datagram = encode_ping(binding.user, session)
        elif binding.endpoint.port is Port.CLIENT:
            datagram = encode_player_data(binding.user, session, payload)
        else:
            naive = self.twins.naive
            known = sorted({*naive.connection_ids.values(), *(one for _, one in naive.retired), 0, -1})
            datagram = encode_host_data(binding.user, session, data.draw(st.sampled_from(known)), payload)
        self.twins.deliver(binding.endpoint, datagram, binding.address)

    # Time

    @rule(seconds=st.sampled_from([1 / 512, 0.25, 0.5, 1.0, 3.0, 7.75, 8.0, 20.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.twins.now += seconds

    @precondition(lambda self: self.twins.naive.bindings)
    @rule(data=st.data(), rounds=st.integers(1, 8))
    def somebody_plays_for_some_time(self, data: st.DataObject, rounds: int) -> None:
        playing: NaiveBinding = data.draw(st.sampled_from(self.twins.naive.bindings))
        for _ in range(rounds):
            if playing in self.twins.naive.bindings:
                session = self.twins.naive.sessions[playing.session_id].spec.token
                self.twins.deliver(playing.endpoint, encode_ping(playing.user, session), playing.address)
            self.time_passes(3.0)
            self.expire_all()

    @rule(draining=st.booleans())
    def drain(self, draining: bool) -> None:
        self.twins.drain(draining)

    @rule(budget=st.integers(1, 3))
    def expire_a_little(self, budget: int) -> None:
        self.twins.expire_within(budget)

    @rule()
    def expire_all(self) -> None:
        self.twins.expire_all()

    # What holds after every step

    @invariant()
    def sessions_and_users_are_those_wanted(self) -> None:
        self.twins.sessions_and_users_are_those_wanted()

    @invariant()
    def everybody_is_bound_where_last_heard(self) -> None:
        self.twins.everybody_is_bound_where_last_heard()

    @invariant()
    def counts_agree_with_a_recount(self) -> None:
        self.twins.counts_agree_with_a_recount()

    @invariant()
    def every_datagram_is_counted_once(self) -> None:
        self.twins.every_datagram_is_counted_once()

    @invariant()
    def the_next_deadline_is_not_too_late(self) -> None:
        self.twins.the_next_deadline_is_not_too_late()


TestRelayMachine = RelayMachine.TestCase
# To shrink a failure takes minutes and finds little: the steps are printed as they were.
TestRelayMachine.settings = settings(max_examples=150, stateful_step_count=60, phases=[Phase.explicit, Phase.generate])
