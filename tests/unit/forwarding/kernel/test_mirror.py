"""What the kernel is told of the table, in maps that are memory: rows agree with each other whatever happens."""

import asyncio
import errno
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.limits import Limits
from relayd.core.pings import Pings
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.layout import ControlFlag, pack_ip
from tests.support.fast_paths import FastPathWorld
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
    spec,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FastPathWorld:
    return FastPathWorld(monkeypatch)


def binding(world: FastPathWorld, user: int = ALICE) -> Binding:
    one = world.relay.user(user)
    found = one.client_binding or one.server_binding
    assert found is not None
    return found


def tick(world: FastPathWorld) -> None:
    asyncio.run(world.fast_path.tick())


def test_every_pair_of_tokens_is_known_from_the_start(world: FastPathWorld) -> None:
    assert {world.slots(user, SESSION) for user in (HOST, ALICE, BOB)} == {(0, 0)}
    assert world.slots(4711, SESSION) is None


def test_whoever_is_bound_is_served_a_moment_later(world: FastPathWorld) -> None:
    world.relay.host_pings()
    world.relay.player_pings()
    assert world.served() == {}, "until then the sockets serve"
    world.flush()
    assert world.served() == {(HOST, Port.SERVER): HOST_AT, (ALICE, Port.CLIENT): ALICE_AT}
    assert world.fast_path.bindings_served == 2
    assert len(world.map("connections").entries) == 1


def test_whoever_leaves_is_served_no_more_at_once(world: FastPathWorld) -> None:
    world.bind()
    world.relay.apply(spec(users=(HOST, BOB)))
    assert world.served() == {(HOST, Port.SERVER): HOST_AT}
    assert world.map("connections").entries == {}
    world.flush()
    assert world.slots(ALICE, SESSION) is None, "its pair is none any more"


def test_whoever_moves_gets_another_slot(world: FastPathWorld) -> None:
    world.bind()
    before = world.slot_of(binding(world))
    world.relay.now += 5.0
    world.relay.player_pings(source=ALICE_MOVED)
    assert (ALICE, Port.CLIENT) not in world.served(), "undecided: the engine forwards"
    world.relay.player_sends(ONGOING, source=ALICE_MOVED)
    world.flush()
    assert world.served()[ALICE, Port.CLIENT] == ALICE_MOVED
    assert world.slot_of(binding(world)) != before, "runs that are under way still know the old one"


def test_a_new_connection_takes_the_place_of_the_old_one(world: FastPathWorld) -> None:
    world.bind()
    world.relay.player_sends(OPENING)
    (before,) = world.map("connections").entries
    world.relay.now += 5.0
    world.relay.player_pings(source=ALICE_MOVED)
    world.relay.player_sends(OPENING, source=ALICE_MOVED)
    world.flush()
    (after,) = world.map("connections").entries
    assert before != after


def test_a_watched_session_is_the_engines(world: FastPathWorld) -> None:
    world.bind()
    session = world.relay.table.sessions["game"]
    world.relay.table.watch(session, world.relay.now)
    assert world.served() == {}
    world.relay.table.unwatch(session, world.relay.now)
    world.flush()
    assert len(world.served()) == 2


def test_a_link_local_peer_is_the_sockets(world: FastPathWorld) -> None:
    world.relay.player_pings(source=("fe80::7", 5000))
    world.flush()
    assert world.served() == {}


def test_a_session_that_ended_is_remembered_by_the_kernel_for_as_long_as_by_the_table(world: FastPathWorld) -> None:
    world.relay.apply()
    ((token, forgotten_ns),) = world.map("ended").entries.items()
    assert int.from_bytes(token, "little") == SESSION
    assert int.from_bytes(forgotten_ns, "little") == int((world.relay.now + 60.0) * 1e9)
    world.relay.apply(spec())
    assert world.map("ended").entries == {}, "it is back"


# Full maps --------------------------------------------------------------------------------------------------


def test_where_pairs_do_not_all_fit_the_kernel_does_not_say_no_for_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, authorized=2)
    assert not world.fast_path.mirror.pairs_complete
    tick(world)
    control = world.map("control").lookup(bytes(4)) or b""
    assert layout.Control.from_buffer_copy(control).flags & ControlFlag.PAIRS_INCOMPLETE


def test_where_there_are_no_slots_the_sockets_serve_until_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, bound=1)
    world.bind()
    assert world.served() == {(HOST, Port.SERVER): HOST_AT}
    world.relay.apply(spec(users=(ALICE, BOB)))
    for _ in range(2):  # the slot is free after the first, and given out with the second
        tick(world)
    assert world.served() == {(ALICE, Port.CLIENT): ALICE_AT}


@pytest.mark.parametrize("failure", [errno.E2BIG, errno.ENOMEM])
def test_no_row_outlives_a_map_that_takes_no_more(world: FastPathWorld, failure: int) -> None:
    """What names a slot that is another's by then would have datagrams sent to a stranger."""
    world.bind()
    slot = world.slot_of(binding(world))
    world.map("pairs").failure = failure
    world.relay.apply(spec(users=(HOST, BOB)))
    assert world.slots(ALICE, SESSION) is None
    assert not world.fast_path.mirror.pairs_complete
    world.map("pairs").failure = None
    tick(world)
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    assert world.slot_of(binding(world, BOB)) == slot, "the slot is given out again"
    assert world.served() == {(HOST, Port.SERVER): HOST_AT, (BOB, Port.CLIENT): BOB_AT}


@pytest.mark.parametrize("name", ["bindings", "connections"])
def test_a_map_that_fails_while_somebody_is_given_to_the_kernel_leaves_nothing_of_it(
    world: FastPathWorld, name: str
) -> None:
    world.relay.player_pings()
    world.map(name).failure = errno.ENOMEM
    world.flush()
    assert world.served() == {}
    assert world.map("connections").entries == {}
    assert world.fast_path.bindings_served == 0


# Counts -----------------------------------------------------------------------------------------------------


def test_what_the_kernel_forwarded_is_its_users_and_added_once(world: FastPathWorld) -> None:
    world.bind()
    world.counts(world.slot_of(binding(world)), to_host_datagrams=5, to_host_bytes=500)
    for _ in range(2):
        world.fast_path.absorb(world.relay.table.sessions.values())
    traffic = world.relay.table.sessions["game"].traffic()
    assert (traffic.to_host_datagrams, traffic.to_host_bytes) == (5, 500)
    assert ALICE in {user.token for user in world.kept.accounted}


def test_what_it_dropped_is_counted_by_reason(world: FastPathWorld) -> None:
    world.bind()
    world.counts(world.slot_of(binding(world)), conflict_datagrams=3, limited_datagrams=4)
    world.fast_path.absorb(world.relay.table.sessions.values())
    drops = world.relay.table.sessions["game"].drops or {}
    assert (drops[Verdict.ADDRESS_CONFLICT], drops[Verdict.RATE_LIMITED]) == (3, 4)
    assert world.fast_path.conflicts(binding(world)) == 3


def test_runs_under_way_still_count_for_a_user_that_is_gone(world: FastPathWorld) -> None:
    """Its own counts are the session's by then: what comes after goes straight there."""
    world.bind()
    one = binding(world)
    slot = world.slot_of(one)
    world.counts(slot, to_host_datagrams=5)
    session = world.relay.table.sessions["game"]
    world.relay.apply(spec(users=(HOST, BOB)))
    assert session.traffic().to_host_datagrams == 5
    assert not world.fast_path.settled(session)
    world.counts(slot, to_host_datagrams=2)
    tick(world)
    assert session.traffic().to_host_datagrams == 7
    assert world.fast_path.settled(session)


def test_runs_under_way_still_count_for_a_user_that_moved(world: FastPathWorld) -> None:
    world.bind()
    slot = world.slot_of(binding(world))
    world.relay.now += 5.0
    world.relay.player_pings(source=ALICE_MOVED)
    world.counts(slot, to_host_datagrams=2)
    tick(world)
    assert world.relay.table.sessions["game"].traffic().to_host_datagrams == 2


def test_a_slot_is_given_out_again_only_when_no_run_can_know_it(world: FastPathWorld) -> None:
    world.bind()
    slot = world.slot_of(binding(world))
    world.relay.apply(spec(users=(HOST, BOB)))
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    assert world.slot_of(binding(world, BOB)) != slot


def test_totals_of_all_processors_are_the_engines(world: FastPathWorld) -> None:
    totals = world.map("totals")
    key = (Port.CLIENT * len(Verdict) + Verdict.FORWARDED).to_bytes(4, "little")
    words: tuple[Any, ...] = (3, 300, 4, 400)
    totals.entries[key] = b"".join(word.to_bytes(8, "little") for word in words)
    for _ in range(2):
        world.fast_path.absorb(())
    assert world.relay.count(Port.CLIENT, Verdict.FORWARDED) == (7, 700)
    assert world.fast_path.by_kernel(Port.CLIENT, Verdict.FORWARDED) == 7


# Presence and rates -----------------------------------------------------------------------------------------


def test_whoever_the_kernel_heard_is_not_silent(world: FastPathWorld) -> None:
    world.bind()
    heard_ns = int((world.relay.now + 25.0) * 1e9)
    world.counts(world.slot_of(binding(world)), last_seen_ns=heard_ns)
    world.relay.now += world.relay.table.limits.user_timeout + 1.0
    world.relay.expire()
    assert set(world.served()) == {(ALICE, Port.CLIENT)}


def test_pings_of_both_are_one_sum(world: FastPathWorld) -> None:
    world.bind()
    one = binding(world)
    world.answered(world.slot_of(one), Pings(1, 10, 2, 0))
    pings = world.relay.table.presence.pings(one)
    assert pings is not None
    assert (pings.heard, pings.missed) == (11, 2)


def test_what_a_user_may_send_goes_with_it_to_the_kernel_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, limits=Limits(user_datagrams_per_second=100))
    world.bind()
    one = binding(world)
    assert one.meter is not None
    world.relay.player_sends()
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    due = one.meter.datagrams_due_ns
    world.relay.table.unwatch(world.relay.table.sessions["game"], world.relay.now)
    world.flush()
    world.relay.table.watch(world.relay.table.sessions["game"], world.relay.now)
    assert one.meter.datagrams_due_ns == due, "else watching would be a way around its rate"


# The end ----------------------------------------------------------------------------------------------------


def test_when_it_stops_it_has_added_all_and_follows_no_more(world: FastPathWorld) -> None:
    world.bind()
    world.counts(world.slot_of(binding(world)), to_host_datagrams=5)
    world.fast_path.stop(remove=False)
    assert world.program.closed
    assert world.relay.table.sessions["game"].traffic().to_host_datagrams == 5
    before = dict(world.map("pairs").entries)
    world.relay.apply()
    assert world.map("pairs").entries == before, "the kernel goes on with what it has"


def test_the_hosts_addresses_are_followed(world: FastPathWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    book = world.map("addresses")
    at_a_nat = {pack_ip("127.0.0.1"): bytes(4)}
    assert len(book.entries) == 2
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", lambda _: {})
    tick(world)
    assert book.entries == at_a_nat

    def refused(_: object) -> dict[str, str]:
        raise OSError(1, "no")

    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", refused)
    with capture_logs() as logs:
        for _ in range(3):
            tick(world)
    assert [line["why"] for line in logs] == ["[Errno 1] no"], "told once, not every second"
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", lambda _: {})
    tick(world)
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", refused)
    with capture_logs() as logs:
        tick(world)
    assert len(logs) == 1, "it went well meanwhile"
