"""What a process before left in the maps, taken over pair by pair: without a kernel."""

import pytest

from relayd.core.counters import Traffic
from relayd.core.limits import Limits
from relayd.core.session import User
from relayd.core.wire import encode_ping
from tests.support.bpf_maps import PlayedProgram
from tests.support.mirrored_table import (
    ALICE,
    BOB,
    ELSEWHERE,
    FIRST_ID,
    HERE,
    HOST,
    OTHER,
    SESSION,
    THERE,
    C,
    MirroredTable,
    S,
    counts,
)

LATER_ID = 9000


class Kept:
    """Counts of the process before: none, or those that it took over from the slots."""

    def __init__(self, traffic: tuple[int, int, int, int] | None = None) -> None:
        self.go_on = traffic is not None
        self.left: dict[tuple[int, int], Traffic] = {}
        self._traffic = traffic

    def account(self, user: User) -> None:
        """Nobody to tell."""

    def bring_back(self, user: User) -> None:
        if self._traffic is not None and user.token == ALICE:
            user.traffic = Traffic()
            user.traffic.count(*self._traffic)

    def count_left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        self.left.setdefault((session_token, user_token), Traffic()).add(traffic)


def before() -> tuple[PlayedProgram, int, int]:
    """A host and Alice played, Bob was to come; with the slots of both."""
    world = MirroredTable()
    world.authorize(game=(HOST, ALICE, BOB))
    host, alice = world.ping(HOST, HERE), world.ping(ALICE, THERE)
    world.flush()
    slots = world.mirror.slot_of
    world.forward(slots[alice], 3, 300, 2, 200, last_seen=990.0)
    world.mirror.absorb(world.session)
    world.forward(slots[alice], 5, 500, 6, 700, last_seen=991.0)
    return world.program, slots[host], slots[alice]


def after(program: PlayedProgram, kept: Kept | None = None, limits: Limits | None = None) -> MirroredTable:
    world = MirroredTable(limits, program, kept or Kept(), LATER_ID)
    assert world.adoption is not None
    return world


def finish(world: MirroredTable) -> None:
    assert world.adoption is not None
    for _ in world.adoption.finish():
        pass
    world.adoption = None


def test_whoever_is_named_again_goes_on_in_its_slot_under_its_id() -> None:
    program, host_slot, alice_slot = before()
    world = after(program)
    assert world.adoption is not None
    assert len(world.adoption) == 2
    world.authorize(game=(HOST, ALICE, BOB))
    assert (len(world.adoption), world.adoption.restored) == (0, 2)
    host, alice = world.user(HOST).server_binding, world.user(ALICE).client_binding
    assert host is not None
    assert alice is not None
    assert (world.mirror.slot_of[host], world.mirror.slot_of[alice]) == (host_slot, alice_slot)
    assert (host.address, alice.address, alice.endpoint) == (HERE, THERE, C)
    assert world.user(ALICE).connection_id == FIRST_ID
    assert (host.last_seen, alice.last_seen) == (world.now, 991.0)
    finish(world)
    assert world.slots(HOST) == (host_slot, 0)
    assert world.slots(ALICE) == (0, alice_slot)
    assert world.slots(BOB) == (0, 0)
    assert world.hosts() == [(SESSION, host_slot)]


@pytest.mark.parametrize(
    ("kept", "expected"), [(Kept(), (5, 500, 6, 700)), (Kept((13, 1300, 2, 200)), (15, 1500, 6, 700))]
)
def test_what_was_counted_is_counted_once(kept: Kept, expected: tuple[int, ...]) -> None:
    program, _, _ = before()
    world = after(program, kept)
    world.authorize(game=(HOST, ALICE, BOB))
    assert counts(world.user(ALICE).traffic) == expected
    world.mirror.absorb(world.session)
    assert counts(world.user(ALICE).traffic) == expected


def test_whoever_is_not_named_again_is_taken_out_when_the_table_is_there() -> None:
    program, host_slot, alice_slot = before()
    kept = Kept((3, 300, 2, 200))
    world = after(program, kept)
    world.authorize(game=(HOST,))
    assert world.slots(ALICE) == (0, alice_slot), "until the whole table is there"
    finish(world)
    assert world.slots(ALICE) is world.slots(BOB) is None
    assert world.slots(HOST) == (host_slot, 0)
    assert world.connections() == {}
    assert counts(kept.left[SESSION, ALICE]) == (2, 200, 4, 500)
    world.forward(alice_slot, 6, 600, 7, 800)
    world.runs_are_over()
    assert counts(kept.left[SESSION, ALICE]) == (3, 300, 5, 600)
    assert alice_slot in world.mirror.slots._free
    assert host_slot not in world.mirror.slots._free


def test_the_place_of_a_session_that_nobody_names_is_given_free_once() -> None:
    program, _, _ = before()
    world = after(program)
    index = next(iter(world.adoption._indexes)) if world.adoption is not None else 0
    world.authorize(other=(BOB,))
    finish(world)
    assert world.hosts() == []
    world.runs_are_over()
    for numbers in (world.mirror.slots, world.mirror.indexes):
        assert sorted(numbers._free) == list(range(1, numbers.most + 1))
    assert world.mirror.indexes._free.count(index) == 1


def test_a_session_that_has_another_place_by_now_keeps_that() -> None:
    """Bob comes before the source has named Alice again: the session gets a row of its own."""
    program, host_slot, alice_slot = before()
    world = after(program)
    world.authorize(game=(BOB,))
    bob = world.ping(BOB, ELSEWHERE)
    world.mirror.flush()
    index = world.mirror.rows[world.session].index
    assert index != world.entry(alice_slot).session_index
    world.authorize(game=(HOST, ALICE, BOB))
    assert world.user(ALICE).client_binding is None
    assert world.user(HOST).server_binding is None
    assert (world.slots(ALICE), world.slots(HOST)) == ((0, 0), (0, 0))
    assert world.mirror.rows[world.session].index == index
    finish(world)
    world.runs_are_over()
    host = world.ping(HOST, HERE)
    world.mirror.flush()
    assert world.entry(world.mirror.slot_of[bob]).session_index == index
    assert world.hosts() == [(SESSION, world.mirror.slot_of[host])]
    assert world.mirror.slot_of[host] in {host_slot, alice_slot, *range(1, 21)}


def test_a_host_that_another_took_the_place_of_is_not_brought_back() -> None:
    program, host_slot, _ = before()
    world = after(program, limits=Limits(session_datagrams_per_second=0))
    world.authorize(game=(BOB,))
    world.engine.handle(S, encode_ping(BOB, SESSION), ELSEWHERE, world.now)
    world.authorize(game=(HOST, BOB))
    assert world.user(HOST).server_binding is None
    assert world.session.host is world.user(BOB).server_binding
    finish(world)
    world.runs_are_over()
    assert host_slot in world.mirror.slots._free


@pytest.mark.parametrize("limits", [Limits(pin_ip=True), Limits(session_datagrams_per_second=10)])
def test_what_the_settings_forbid_by_now_is_given_up(limits: Limits) -> None:
    program, _, alice_slot = before()
    world = after(program, Kept((3, 300, 2, 200)), limits)
    world.authorize(game=(HOST, ALICE, BOB))
    assert world.user(ALICE).client_binding is None
    assert world.slots(ALICE) == (0, 0)
    assert world.hosts() == [(SESSION, 0)]
    assert world.connections() == {}
    assert counts(world.user(ALICE).traffic) == (5, 500, 6, 700), "what it sent is its all the same"
    world.runs_are_over()
    assert alice_slot in world.mirror.slots._free


def damaged(program: PlayedProgram, slot: int, **fields: object) -> None:
    world = MirroredTable(program=program)
    entry = world.entry(slot)
    for name, value in fields.items():
        setattr(entry, name, type(getattr(entry, name))(*value) if isinstance(value, tuple) else value)
    program.map("bindings").put(slot, bytes(entry))


@pytest.mark.parametrize(
    "fields",
    [
        {"user": BOB},
        {"session": OTHER},
        {"endpoint": 0},
        {"endpoint": 3},
        {"family": 1},
        {"peer_port": (0, 0)},
        {"connection_id": 0},
        {"session_index": 0},
        {"session_index": 22},
    ],
)
def test_an_entry_that_no_relay_wrote_is_not_adopted(fields: dict[str, object]) -> None:
    program, host_slot, alice_slot = before()
    damaged(program, alice_slot, **fields)
    world = after(program)
    assert world.adoption is not None
    assert len(world.adoption) == 1
    world.authorize(game=(HOST, ALICE, BOB))
    assert world.user(ALICE).client_binding is None
    assert world.user(HOST).server_binding is not None
    assert world.slots(ALICE) == (0, 0)
    assert world.slots(HOST) == (host_slot, 0)


def test_pairs_are_taken_out_a_hundred_at_a_time() -> None:
    program = PlayedProgram(authorized=500)
    world = MirroredTable(program=program)
    world.authorize(game=tuple(range(10, 260)))
    world.flush()
    world = after(program)
    assert world.adoption is not None
    left = [len(program.map("pairs").entries) for _ in world.adoption.finish()]
    assert left == [150, 50, 0]
