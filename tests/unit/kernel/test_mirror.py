"""What user space writes into the maps as the table changes, and what it reads from them: without a kernel."""

import struct

import pytest

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.limits import Limits
from relayd.core.table import TOMBSTONE_SECONDS
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.layout import pack_ip
from tests.support.bpf_maps import PlayedProgram
from tests.support.mirrored_table import (
    ALICE,
    BOB,
    ELSEWHERE,
    ENDPOINTS,
    FIRST_ID,
    HERE,
    HOST,
    OTHER,
    SESSION,
    THERE,
    C,
    MirroredTable,
    counts,
)


def playing(limits: Limits | None = None, program: PlayedProgram | None = None) -> MirroredTable:
    """A host and Alice are bound and served by the kernel; Bob has yet to come."""
    world = MirroredTable(limits, program)
    world.authorize(game=(HOST, ALICE, BOB))
    world.ping(HOST, HERE)
    world.ping(ALICE, THERE)
    world.flush()
    return world


def test_whoever_is_bound_gets_a_slot_a_moment_later() -> None:
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE, BOB))
    host, alice = world.ping(HOST, HERE), world.ping(ALICE, THERE)
    assert world.slots(HOST) is None
    world.flush()
    host_slot, alice_slot = world.mirror.slot_of[host], world.mirror.slot_of[alice]
    assert host_slot != alice_slot
    assert world.slots(HOST) == (host_slot, 0)
    assert world.slots(ALICE) == (0, alice_slot)
    assert world.slots(BOB) == (0, 0)
    assert world.hosts() == [(SESSION, host_slot)]
    assert world.connections() == {(SESSION, FIRST_ID): alice_slot}
    host_entry, alice_entry = world.entry(host_slot), world.entry(alice_slot)
    assert host_entry.session_index == alice_entry.session_index > 0
    for entry, user, address, connection_id in (
        (host_entry, HOST, HERE, 0),
        (alice_entry, ALICE, THERE, FIRST_ID),
    ):
        assert layout.peer_address(entry) == address
        assert (entry.user, entry.session, entry.endpoint, entry.connection_id) == (user, SESSION, 1, connection_id)


def test_the_second_address_of_the_relay_is_its_second_endpoint() -> None:
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE))
    world.engine.handle(ENDPOINTS[3], encode_ping(ALICE, SESSION), ("2001:db8::7", 5000, 0, 0), world.now)
    world.flush()
    (slot,) = world.mirror.slot_of.values()
    assert world.entry(slot).endpoint == 2
    assert layout.peer_address(world.entry(slot))[:2] == ("2001:db8::7", 5000)


def test_one_flush_for_all_that_came_up_together() -> None:
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE, BOB))
    world.ping(HOST, HERE)
    assert len(world.later) == 1
    world.flush()
    world.ping(ALICE, THERE)
    assert len(world.later) == 1


@pytest.mark.parametrize("ip", ["fe80::1", "FE80::1", "fe90::1", "fea0::1", "febf::1"])
def test_a_link_local_peer_is_served_by_the_sockets(ip: str) -> None:
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE))
    world.engine.handle(ENDPOINTS[3], encode_ping(ALICE, SESSION), (ip, 5000, 0, 2), world.now)
    world.flush()
    assert world.slots(ALICE) == (0, 0)
    assert not world.mirror.slot_of


def test_a_session_with_a_rate_of_its_own_is_served_by_the_sockets() -> None:
    world = playing(Limits(session_datagrams_per_second=100))
    assert world.slots(ALICE) == (0, 0)
    assert world.hosts() == []


def test_a_player_whose_connection_is_undecided_waits_for_its_first_data() -> None:
    world = playing(Limits(connection_id_policy=ConnectionIdPolicy.KCP, rebind_after=3.0))
    world.now += 4.0
    binding = world.ping(ALICE, ELSEWHERE)
    world.flush()
    assert world.slots(ALICE) == (0, 0)
    world.table.decide_connection(binding, opens_connection=False)
    world.flush()
    assert world.slots(ALICE) == (0, world.mirror.slot_of[binding])


def test_whoever_moves_gets_another_slot() -> None:
    world = playing(Limits(connection_id_policy=ConnectionIdPolicy.PER_ADDRESS, rebind_after=3.0))
    before = world.mirror.slot_of[world.ping(ALICE, THERE)]
    world.now += 4.0
    binding = world.ping(ALICE, ELSEWHERE)
    assert world.slots(ALICE) == (0, 0), "at once, for the old address is no longer its"
    assert world.connections() == {}
    world.flush()
    after = world.mirror.slot_of[binding]
    assert after != before
    assert world.slots(ALICE) == (0, after)
    assert world.connections() == {(SESSION, FIRST_ID + 1): after}
    assert layout.peer_address(world.entry(after)) == ELSEWHERE


def test_whoever_falls_silent_is_taken_out_at_once_and_counted() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.forward(slot, 3, 300, 2, 200)
    world.now += 31.0
    world.table.expire(world.now, 100)
    assert world.slots(ALICE) == (0, 0)
    assert world.slots(HOST) == (0, 0)
    assert world.connections() == {}
    assert world.hosts() == []
    assert counts(world.user(ALICE).traffic) == (3, 300, 2, 200)
    assert world.user(ALICE) in world.accounted
    assert not world.mirror.rows


def test_the_host_that_left_is_nobodys_slot_while_players_stay() -> None:
    world = playing()
    host = world.user(HOST).server_binding
    assert host is not None
    world.table.replace_host(host, world.now)
    assert world.hosts() == [(SESSION, 0)]
    assert world.slots(HOST) == (0, 0)
    assert world.slots(ALICE) != (0, 0)


def test_the_kernel_says_when_a_binding_was_last_heard() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    assert world.table.presence.last_heard(alice) == 1000.0
    world.forward(world.mirror.slot_of[alice], 1, 1, 0, 0, last_seen=1025.0)
    assert world.table.presence.last_heard(alice) == 1025.0
    world.now += 31.0
    world.table.expire(world.now, 100)
    assert world.user(ALICE).client_binding is alice
    assert world.user(HOST).server_binding is None


def test_absorbing_adds_only_what_is_new() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.forward(slot, 3, 300, 2, 200, limited=4)
    world.mirror.absorb(world.session)
    world.mirror.absorb(world.session)
    assert counts(world.session.traffic()) == (3, 300, 2, 200)
    assert world.session.drops == {Verdict.RATE_LIMITED: 4}
    world.forward(slot, 5, 450, 2, 200, limited=5)
    world.mirror.absorb(world.session)
    assert counts(world.session.traffic()) == (5, 450, 2, 200)
    assert world.session.drops == {Verdict.RATE_LIMITED: 5}
    ((refusal, spell),) = world.table.history.sessions[SESSION].refusals
    assert (refusal.verdict, refusal.user_token, spell.times) == (Verdict.RATE_LIMITED, ALICE, 5)


def test_what_runs_under_way_still_counted_is_found_at_the_last_look() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.forward(slot, 3, 300, 0, 0)
    world.now += 31.0
    world.table.expire(world.now, 100)
    assert world.session in world.mirror.unsettled
    world.forward(slot, 4, 420, 0, 0)
    assert counts(world.user(ALICE).traffic) == (3, 300, 0, 0)
    world.runs_are_over()
    assert counts(world.user(ALICE).traffic) == (4, 420, 0, 0)
    assert world.session not in world.mirror.unsettled


def test_the_last_look_at_a_user_who_is_gone_counts_for_its_session() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.forward(slot, 3, 300, 0, 0)
    world.authorize(game=(HOST, BOB))
    assert counts(world.session.revoked_traffic) == (3, 300, 0, 0)
    world.forward(slot, 4, 420, 0, 0)
    world.runs_are_over()
    assert counts(world.session.revoked_traffic) == (4, 420, 0, 0)
    assert counts(world.session.traffic()) == (4, 420, 0, 0)


def test_the_last_look_at_a_user_who_came_again_counts_for_the_session_alone() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.authorize(game=(HOST, BOB))
    world.authorize(game=(HOST, ALICE, BOB))
    world.forward(slot, 4, 420, 0, 0)
    world.runs_are_over()
    assert world.user(ALICE).traffic is None
    assert counts(world.session.traffic()) == (4, 420, 0, 0)


def test_a_slot_is_given_out_again_only_when_runs_are_over_and_is_empty_then() -> None:
    world = playing(program=PlayedProgram(bound=2))
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    world.forward(slot, 3, 300, 0, 0, last_seen=world.now)
    world.authorize(game=(HOST, BOB))
    bob = world.ping(BOB, ELSEWHERE)
    world.flush()
    assert bob not in world.mirror.slot_of
    assert world.slots(BOB) == (0, 0)
    world.runs_are_over()
    world.mirror.flush()
    assert world.mirror.slot_of[bob] == slot
    assert world.slots(BOB) == (0, slot)
    world.mirror.absorb(world.session)
    assert counts(world.user(BOB).traffic) == (0, 0, 0, 0)
    assert world.mirror.last_heard(bob) == world.now, "by the engine, and not by the kernel so far"


def test_without_a_slot_a_session_takes_no_index() -> None:
    world = playing(program=PlayedProgram(bound=2))
    world.authorize(game=(HOST, ALICE), other=(BOB,))
    free = len(world.mirror.indexes._free)
    for _ in range(3):
        world.engine.handle(C, encode_ping(BOB, OTHER), ELSEWHERE, world.now)
        world.mirror.flush()
    assert len(world.mirror.indexes._free) == free
    assert set(world.mirror.rows) == {world.session}


def test_a_session_keeps_its_index_as_long_as_it_has_a_slot() -> None:
    world = playing()
    index = world.mirror.rows[world.session].index
    host = world.user(HOST).server_binding
    assert host is not None
    world.table.replace_host(host, world.now)
    world.runs_are_over()
    assert world.mirror.rows[world.session].index == index
    assert index not in world.mirror.indexes._free
    world.authorize(game=(HOST, BOB))
    assert index not in world.mirror.indexes._free
    world.runs_are_over()
    assert world.mirror.indexes._free.count(index) == 1


def test_a_pair_that_finds_no_room_leaves_no_row_that_names_its_slot() -> None:
    world = playing()
    alice = world.user(ALICE).client_binding
    assert alice is not None
    slot = world.mirror.slot_of[alice]
    pairs = world.program.map("pairs")
    update = pairs.update

    def full(key: bytes, value: bytes) -> None:
        pairs.max_entries = 0
        kept = pairs.entries.pop(key, None)
        try:
            update(key, value)
        finally:
            if kept is not None:
                pairs.entries[key] = kept

    pairs.update = full  # type: ignore[method-assign]
    world.authorize(game=(HOST, ALICE, BOB))
    world.now += 31.0
    world.table.expire(world.now, 100)
    assert world.slots(ALICE) is None, f"slot {slot} is another's soon"
    assert not world.mirror.pairs_complete


def test_what_does_not_fit_into_the_pairs_is_said() -> None:
    world = playing(program=PlayedProgram(authorized=3))
    assert world.mirror.pairs_complete
    world.authorize(game=(HOST, ALICE, BOB, BOB + 1))
    world.flush()
    assert not world.mirror.pairs_complete


def test_a_binding_that_finds_no_room_is_left_to_the_sockets() -> None:
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE))
    world.program.map("connections").max_entries = 0
    alice = world.ping(ALICE, THERE)
    world.flush()
    assert alice not in world.mirror.slot_of
    assert world.slots(ALICE) == (0, 0)
    assert not world.mirror.pairs_complete
    assert world.hosts() == []


def test_very_many_pairs_are_written_before_the_loop_goes_on() -> None:
    world = MirroredTable(program=PlayedProgram(authorized=10_000))
    world.authorize(game=tuple(range(10, 10 + 4096)))
    assert len(world.program.map("pairs").entries) == 4096
    world.authorize(game=())
    assert len(world.program.map("pairs").entries) == 0


def test_who_is_no_longer_in_the_session_is_no_longer_in_the_map() -> None:
    world = playing()
    world.authorize(game=(HOST, ALICE))
    world.flush()
    assert world.slots(BOB) is None
    world.authorize(game=(HOST, ALICE, BOB))
    world.authorize(game=(HOST, ALICE))
    world.authorize(game=(HOST, ALICE, BOB))
    world.flush()
    assert world.slots(BOB) == (0, 0)


def test_a_session_that_ended_is_known_as_such_for_a_while() -> None:
    world = playing()
    world.now += 7.0
    world.authorize()
    assert world.ended() == {SESSION: pytest.approx(world.now + TOMBSTONE_SECONDS)}
    world.flush()
    assert [world.slots(user) for user in (HOST, ALICE, BOB)] == [None, None, None]
    world.authorize(game=(HOST,))
    assert world.ended() == {}


def test_guesses_are_counted_for_the_sessions_that_there_are() -> None:
    world = MirroredTable()
    world.authorize(game=(HOST,))
    world.flush()
    assert set(world.program.map("guesses").entries) == {SESSION.to_bytes(4, "little")}
    world.authorize(other=(BOB,))
    assert set(world.program.map("guesses").entries) == set()
    world.authorize()
    world.flush()
    assert set(world.program.map("guesses").entries) == set()


def test_a_captured_session_is_served_by_the_sockets_until_the_capture_ends() -> None:
    world = playing()
    world.table.watch(world.session, world.now)
    assert [world.slots(user) for user in (HOST, ALICE)] == [(0, 0), (0, 0)]
    world.flush()
    assert [world.slots(user) for user in (HOST, ALICE)] == [(0, 0), (0, 0)]
    world.table.unwatch(world.session, world.now)
    world.flush()
    assert all(any(world.slots(user) or ()) for user in (HOST, ALICE))


def test_the_rate_of_a_user_goes_on_from_one_engine_to_the_other() -> None:
    world = MirroredTable(Limits(user_datagrams_per_second=10, rebind_after=3.0))
    world.authorize(game=(HOST, ALICE))
    alice = world.ping(ALICE, THERE)
    assert alice.meter is not None
    due = alice.meter.datagrams_due_ns
    world.flush()
    states, at = world.program.map("states"), world.mirror.slot_of[alice] * world.program.map("states").value_bytes
    dues_at = at + layout.State.dues.offset
    assert struct.unpack_from("<2Q", states.share(), dues_at) == (due, alice.meter.bytes_due_ns)
    struct.pack_into("<2Q", states.share(), dues_at, due + 5, 7)
    world.table.watch(world.session, world.now)
    assert (alice.meter.datagrams_due_ns, alice.meter.bytes_due_ns) == (due + 5, 7)


def test_pings_that_the_kernel_answered_stay_with_the_binding() -> None:
    world = playing()
    alice = world.ping(ALICE, THERE)
    pings = world.program.map("pings")
    at = world.mirror.slot_of[alice] * pings.value_bytes
    struct.pack_into("<4Q", pings.share(), at, int(world.now * 1e9) + 1, 9, 4, 160)
    for _ in ("while the kernel serves it", "afterwards"):
        heard = world.table.presence.pings(alice)
        assert heard is not None
        assert (heard.heard, heard.missed, heard.jitter_sixteenths_ns) == (11, 4, 160)
        world.table.watch(world.session, world.now)
    assert world.mirror.pings(alice) is None


def test_the_place_of_a_session_stays_its_own_though_one_of_its_players_finds_no_slot() -> None:
    world = playing(program=PlayedProgram(bound=2))
    world.ping(BOB, ELSEWHERE)
    world.mirror.flush()
    assert world.mirror.rows[world.session].index not in world.mirror.indexes._free
    assert len(world.mirror.slot_of) == 2


def test_the_address_that_the_kernel_heard_last_goes_with_the_binding() -> None:
    """Where the sockets serve next, they have not heard the peer for long."""
    world = playing()
    alice = world.ping(ALICE, THERE)
    alice.local = b"\xc0\0\2\1"
    world.flush()
    states = world.program.map("states")
    at = world.mirror.slot_of[alice] * states.value_bytes
    global_one = pack_ip("2001:db8::7")
    # What is link-local says nothing without its interface, which is not in the maps.
    said = {pack_ip("192.0.2.7"): b"\xc0\0\2\7", global_one: global_one + bytes(4), pack_ip("fe80::7"): None}
    for address, known in said.items():
        start = at + layout.State.local.offset
        states.share()[start : start + 16] = address
        assert world.mirror.traffic.local(world.mirror.slot_of[alice]) == known
    world.forward(world.mirror.slot_of[alice], 1, 1, 0, 0, last_seen=world.now + 1)
    states.share()[at + layout.State.local.offset : at + layout.State.local.offset + 16] = pack_ip("192.0.2.7")
    world.table.watch(world.session, world.now)
    assert alice.local == b"\xc0\0\2\7"
