"""What the forwarding thread is told of the table, and what of its counts the table gets."""

from collections.abc import Callable
from typing import Any

import pytest

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.endpoint import Address
from relayd.core.limits import Limits
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.thread.flows import Flows
from tests.support.forwarders import FakeForwarder, FakeRecords, Flow, any_forwarder
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    ALICE_MOVED,
    BOB,
    BOB_AT,
    HOST,
    HOST_AT,
    ONGOING,
    OPENING,
    SESSION,
    Relay,
    spec,
)

NO_RATES = Limits(user_datagrams_per_second=0, user_bytes_per_second=0)


class World:
    """A table and a thread that follows it."""

    def __init__(self, limits: Limits | None = None, most: int = 100) -> None:
        self.thread = FakeForwarder()
        self.records = FakeRecords(most)
        self.relay = Relay(limits or NO_RATES)
        self.soon: list[Callable[[], None]] = []
        self.flows = Flows(any_forwarder(self.thread), self.relay.table, self.records, self.soon.append)

    def bind(self) -> None:
        """A host and Alice."""
        self.relay.host_pings()
        self.relay.player_pings()
        self.flows.flush()

    def binding(self, user: int = ALICE) -> Binding:
        found = self.relay.user(user)
        binding = found.client_binding or found.server_binding
        assert binding is not None
        return binding

    def slot(self, user: int = ALICE) -> int:
        return self.records.slot_of(self.binding(user))

    def served(self) -> dict[int, Flow]:
        """Flows by the token of their user, once the thread has what is new."""
        self.flows.flush()
        return {flow.user: flow for flow in self.thread.flows.values()}

    def absorb(self) -> None:
        self.flows.absorb(self.relay.table.sessions.values())


def test_whoever_is_bound_is_forwarded_for() -> None:
    none = dict.fromkeys((f"{who}_{what}_per_second" for who in ("user", "host") for what in ("datagrams", "bytes")), 0)
    world = World(Limits.model_validate(none))
    world.bind()
    assert world.served() == {
        HOST: Flow(0, HOST_AT, HOST, SESSION, 0, (0, 0, 0, 0)),
        ALICE: Flow(1, ALICE_AT, ALICE, SESSION, world.relay.user().connection_id, (0, 0, 0, 0)),
    }
    assert len(world.flows) == 2


def test_whoever_leaves_is_forwarded_for_no_more() -> None:
    world = World()
    world.bind()
    world.relay.apply(spec(users=(HOST,)))
    assert set(world.served()) == {HOST}
    world.relay.apply()
    assert world.served() == {}
    assert world.records.slots == {}, "their slots are free again"


def test_whoever_moves_is_forwarded_for_at_the_new_address() -> None:
    world = World(Limits(rebind_after=0.0, connection_id_policy=ConnectionIdPolicy.STABLE))
    world.bind()
    world.relay.now += 5.0
    world.relay.player_sends(source=ALICE_MOVED)
    assert world.served()[ALICE].address == ALICE_MOVED


def test_one_whose_connection_is_undecided_is_the_engines_until_it_is_decided() -> None:
    world = World(Limits(rebind_after=0.0))
    world.bind()
    world.relay.player_sends(OPENING)
    first = world.served()[ALICE].connection_id
    world.relay.now += 5.0
    world.relay.player_pings(source=ALICE_MOVED)
    assert set(world.served()) == {HOST}, "only its first DATA tells whether its connection goes on"
    world.relay.player_sends(ONGOING, source=ALICE_MOVED)
    assert world.served()[ALICE].connection_id == first
    world.relay.now += 10.0
    world.relay.player_pings(source=ALICE_AT)
    world.relay.player_sends(OPENING, source=ALICE_AT)
    assert world.served()[ALICE].connection_id != first


def test_a_session_with_a_rate_of_its_own_is_the_engines() -> None:
    world = World(Limits(session_datagrams_per_second=1000))
    world.bind()
    assert world.served() == {}


class Kernel:
    """Another engine, which hears everybody at that time."""

    def __init__(self, heard_at: float) -> None:
        self._heard_at = heard_at

    def last_heard(self, binding: Binding) -> float:
        return self._heard_at

    def pings(self, binding: Binding) -> None:
        return None


def test_a_receiver_that_another_engine_hears_is_not_silent_to_the_thread() -> None:
    world = World()
    world.bind()
    heard_at = world.relay.now + 7.0
    world.relay.table.presence.register(Kernel(heard_at))
    world.thread.asked = [world.slot(HOST), 77]
    world.flows.answer_asked()
    assert world.records.last_seen(world.slot(HOST)) == heard_at
    assert world.records.last_seen(world.slot(ALICE)) == 0.0, "nobody asked"
    assert world.thread.asked == []


def test_where_there_is_no_slot_the_engine_forwards() -> None:
    world = World(most=1)
    world.bind()
    assert set(world.served()) == {HOST}


def test_a_watched_session_is_the_engines_until_it_is_watched_no_more() -> None:
    world = World()
    world.bind()
    session = world.relay.table.sessions["game"]
    world.thread.count(world.slot(), to_host=3)
    world.relay.table.watch(session, world.relay.now)
    assert world.served() == {}
    assert session.traffic().to_host_datagrams == 3, "what was counted before is not lost"
    world.relay.player_pings(BOB, BOB_AT)
    assert world.served() == {}, "whoever comes meanwhile is watched too"
    world.relay.table.unwatch(session, world.relay.now)
    assert set(world.served()) == {HOST, ALICE, BOB}


def test_one_that_the_thread_does_not_take_keeps_nobody_else_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    add = world.thread.add

    def no_memory_for_alice(slot: int, endpoint: int, address: Address, user: int, *rest: Any) -> None:
        if user == ALICE:
            raise MemoryError
        add(slot, endpoint, address, user, *rest)

    monkeypatch.setattr(world.thread, "add", no_memory_for_alice)
    world.relay.host_pings()
    world.relay.player_pings()
    world.relay.player_pings(BOB, BOB_AT)
    assert len(world.soon) == 1
    with pytest.raises(MemoryError):
        world.soon.pop()()
    world.soon.pop()()
    assert {flow.user for flow in world.thread.flows.values()} == {HOST, BOB}
    assert world.soon == []


# Counts -----------------------------------------------------------------------------------------------------


def test_what_it_counted_is_added_to_the_users_counts_once() -> None:
    world = World()
    world.bind()
    world.thread.count(world.slot(), to_host=5)
    world.thread.count(world.slot(HOST), to_player=7)
    for _ in range(2):
        world.absorb()
    traffic = world.relay.table.sessions["game"].traffic()
    assert (traffic.to_host_datagrams, traffic.to_host_bytes) == (5, 500)
    assert (traffic.to_player_datagrams, traffic.to_player_bytes) == (7, 700)
    assert [user.token for user in world.records.accounted] == [HOST, ALICE]


def test_what_it_dropped_is_counted_by_reason() -> None:
    world = World()
    world.bind()
    world.thread.count(world.slot(), queue_full=1, failed=2, limited=3)
    world.absorb()
    assert world.relay.table.sessions["game"].drops == {
        Verdict.SEND_QUEUE_FULL: 1,
        Verdict.SEND_FAILED: 2,
        Verdict.RATE_LIMITED: 3,
    }
    own = world.relay.table.history.sessions[SESSION]
    assert [(what.verdict, what.user_token) for what, _ in own.refusals] == [(Verdict.RATE_LIMITED, ALICE)]


def test_the_last_counts_of_one_who_leaves_are_its_sessions() -> None:
    world = World()
    world.bind()
    world.thread.count(world.slot(), to_host=5)
    world.relay.apply(spec(users=(HOST,)))
    assert world.relay.table.sessions["game"].traffic().to_host_datagrams == 5


def test_only_those_asked_for_are_looked_at() -> None:
    world = World()
    world.bind()
    world.thread.count(world.slot(), to_host=5)
    world.flows.absorb([])
    assert world.relay.table.sessions["game"].traffic().to_host_datagrams == 0


# Presence ---------------------------------------------------------------------------------------------------


def test_whoever_the_thread_heard_is_not_silent() -> None:
    world = World(Limits(user_timeout=30.0))
    world.bind()
    began = world.relay.now
    world.records.seen[world.slot()] = began + 25.0
    world.relay.now = began + 31.0
    world.relay.expire()
    assert set(world.served()) == {ALICE}, "the host was not heard, by anybody"
    assert world.relay.table.presence.last_heard(world.binding()) == began + 25.0
    world.relay.now = began + 56.0
    world.relay.expire()
    assert world.served() == {}


def test_when_it_was_heard_stays_known_when_the_thread_lets_it_go() -> None:
    world = World()
    world.bind()
    binding = world.binding()
    heard_at = world.relay.now + 3.0
    world.records.seen[world.slot()] = heard_at
    world.relay.table.watch(world.relay.table.sessions["game"], heard_at)
    assert binding.last_seen == heard_at


def test_pings_of_both_are_one_sum() -> None:
    world = World()
    world.bind()
    binding = world.binding()
    assert world.relay.table.presence.pings(binding) is not None
    world.thread.heard_pings[world.slot()] = (int(world.relay.now * 1e9), 10, 2, 0)
    pings = world.relay.table.presence.pings(binding)
    assert pings is not None
    assert (pings.heard, pings.missed) == (11, 2), "one was the engine's"
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    pings = world.relay.table.presence.pings(binding)
    assert pings is not None
    assert (pings.heard, pings.missed) == (11, 2)


# Rates ------------------------------------------------------------------------------------------------------


def test_what_a_user_may_send_goes_with_it_to_the_thread_and_back() -> None:
    world = World(Limits(user_datagrams_per_second=100, user_bytes_per_second=50_000))
    world.bind()
    meter = world.binding().meter
    assert meter is not None
    let_through = meter.datagrams_due_ns, meter.bytes_due_ns
    assert all(let_through), "what bound it counts too"
    assert world.served()[ALICE].meter == (100, 50_000, *let_through)
    world.thread.due_ns[world.slot()] = (123, 456)
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    assert (meter.datagrams_due_ns, meter.bytes_due_ns) == (123, 456), "else watching would be a way around its rate"
    world.relay.table.unwatch(world.relay.table.sessions["game"], world.relay.now)
    assert world.served()[ALICE].meter == (100, 50_000, 123, 456)


@pytest.mark.parametrize("port", list(Port))
def test_a_port_without_a_rate_has_no_meter(port: Port) -> None:
    rates = {"user_bytes_per_second": 0, "host_bytes_per_second": 0}
    rates |= {"user_datagrams_per_second": 0, "host_datagrams_per_second": 0}
    other = "user_datagrams_per_second" if port is Port.SERVER else "host_datagrams_per_second"
    world = World(Limits.model_validate(rates | {other: 100}))
    world.bind()
    user = HOST if port is Port.SERVER else ALICE
    assert world.served()[user].meter == (0, 0, 0, 0)


def test_whom_the_thread_does_not_serve_it_never_heard() -> None:
    world = World()
    world.bind()
    assert world.flows.last_heard(world.binding()) == world.records.last_seen(world.slot())
    world.relay.player_pings(BOB, BOB_AT)
    assert world.flows.last_heard(world.binding(BOB)) == 0.0


def test_the_address_that_was_asked_goes_with_a_binding_to_the_thread_and_back() -> None:
    world = World()
    world.bind()
    world.binding().local = b"\x7f\0\0\1"
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    world.relay.table.unwatch(world.relay.table.sessions["game"], world.relay.now)
    assert world.served()[ALICE].local == b"\x7f\0\0\1"
    world.thread.local[world.slot()] = b"\x7f\0\0\7"
    world.records.seen[world.slot()] = world.relay.now + 1
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    assert world.binding().local == b"\x7f\0\0\7"
