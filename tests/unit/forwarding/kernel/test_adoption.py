"""Going on with maps that a relay before left in memory: exactly with what is still named and fits together."""

import asyncio

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.kernel import layout
from tests.support.fast_paths import FastPathWorld
from tests.support.relays import ALICE, ALICE_AT, BOB, BOB_AT, HOST, HOST_AT, SESSION, spec

OTHER = SESSION + 1
NEW_HOST = 3000
NEW_HOST_AT = ("198.51.100.2", 7777)


def left(monkeypatch: pytest.MonkeyPatch) -> FastPathWorld:
    """A relay that served a host, Alice and Bob, and is gone."""
    world = FastPathWorld(monkeypatch)
    world.bind()
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    for binding, slot in world.fast_path.mirror.slot_of.items():
        world.counts(slot, to_host_datagrams=binding.user.token % 10)
    world.fast_path.stop(remove=False)
    return world


def after(
    monkeypatch: pytest.MonkeyPatch, before: FastPathWorld, *specs: SessionSpec, limits: Limits | None = None
) -> FastPathWorld:
    """The relay after it, with these sessions."""
    return FastPathWorld(monkeypatch, specs=specs, program=before.program, limits=limits)


def finish(world: FastPathWorld) -> None:
    asyncio.run(world.fast_path.tick())


def test_whoever_is_still_named_plays_on_under_the_same_connection_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(monkeypatch)
    ids = {user.token: user.connection_id for user in before.relay.table.sessions["game"].users.values()}
    world = after(monkeypatch, before, spec())
    assert not world.fast_path.adopted
    finish(world)
    assert world.fast_path.adopted
    users = world.relay.table.sessions["game"].users
    assert {token: user.connection_id for token, user in users.items()} == ids
    assert world.served() == {
        (HOST, Port.SERVER): HOST_AT,
        (ALICE, Port.CLIENT): ALICE_AT,
        (BOB, Port.CLIENT): BOB_AT,
    }
    assert {user.token for user in world.kept.brought_back} == {HOST, ALICE, BOB}


def test_whoever_is_named_no_more_is_taken_out_when_the_table_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(monkeypatch)
    slots = before.slots(ALICE, SESSION)
    assert slots is not None
    before.counts(slots[Port.CLIENT], to_host_datagrams=3)  # while no relay ran
    world = after(monkeypatch, before, spec(users=(HOST, BOB)))
    assert (ALICE, Port.CLIENT) in world.served(), "until the source has spoken the kernel goes on"
    finish(world)
    assert set(world.served()) == {(HOST, Port.SERVER), (BOB, Port.CLIENT)}
    assert world.slots(ALICE, SESSION) is None
    assert {(session, user) for session, user, _ in world.kept.left} == {(SESSION, ALICE)}
    assert sum(traffic.to_host_datagrams for _, _, traffic in world.kept.left) == 3


def test_a_new_host_stays_with_the_kernel_when_the_one_before_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came between the restart and the moment at which the table is whole."""
    world = after(monkeypatch, left(monkeypatch), spec(users=(ALICE, BOB, NEW_HOST)))
    world.relay.host_pings(NEW_HOST, NEW_HOST_AT)
    world.flush()
    finish(world)
    slots = world.slots(NEW_HOST, SESSION)
    assert slots is not None
    slot = slots[Port.SERVER]
    index = world.binding_at(slot).session_index
    row = layout.Session.from_buffer_copy(world.map("sessions").lookup(index.to_bytes(4, "little")) or b"")
    assert (row.token, row.host_slot) == (SESSION, slot)


def test_a_session_that_is_gone_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = after(monkeypatch, left(monkeypatch))
    finish(world)
    assert world.served() == {}
    assert not any(any(value) for value in world.map("sessions").entries.values())
    assert world.map("connections").entries == {}


def test_slots_of_what_was_adopted_are_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(monkeypatch)
    taken = set(before.fast_path.mirror.slot_of.values())
    world = after(monkeypatch, before, spec(), spec("other", OTHER))
    world.relay.player_pings(session=OTHER, source=("192.0.2.99", 1))
    world.flush()
    new = world.slot_of(next(iter(world.relay.table.sessions["other"].bindings())))
    assert new not in taken


def test_an_entry_with_another_index_than_its_session_has_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kernel would look for its host in the place of another session."""
    before = left(monkeypatch)
    world = after(monkeypatch, before, spec(users=(HOST, 4711)))
    # The session has got a new place, since nobody of those who had the old one was named at first.
    row = world.fast_path.mirror.rows[world.relay.table.sessions["game"]]
    row.index += 7
    world.relay.apply(spec(users=(HOST, 4711, ALICE)))
    world.flush()
    assert world.relay.user(ALICE).client_binding is None
    assert (ALICE, Port.CLIENT) not in world.served()


def test_a_row_that_cannot_be_a_relays_own_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(monkeypatch)
    slots = before.slots(ALICE, SESSION)
    assert slots is not None
    entry = before.binding_at(slots[Port.CLIENT])
    entry.session_index = 0
    before.map("bindings").put(slots[Port.CLIENT], bytes(entry))
    world = after(monkeypatch, before, spec())
    finish(world)
    assert set(world.served()) == {(HOST, Port.SERVER), (BOB, Port.CLIENT)}


def test_two_sessions_in_one_place_are_not_both_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FastPathWorld(monkeypatch, specs=[spec(), spec("other", OTHER)])
    before.relay.player_pings()
    before.relay.player_pings(session=OTHER, source=BOB_AT)
    before.flush()
    slots = before.slots(ALICE, SESSION), before.slots(ALICE, OTHER)
    assert slots[0] is not None
    assert slots[1] is not None
    stolen = before.binding_at(slots[1][Port.CLIENT])
    stolen.session_index = before.binding_at(slots[0][Port.CLIENT]).session_index
    before.map("bindings").put(slots[1][Port.CLIENT], bytes(stolen))
    before.fast_path.stop(remove=False)
    world = after(monkeypatch, before, spec(), spec("other", OTHER))
    finish(world)
    bound = [one.session_id for one in world.relay.table.sessions.values() if one.bound]
    assert len(bound) == 1


def test_whoever_may_not_come_from_there_any_more_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    users = (UserSpec(HOST, HOST_AT[0]), UserSpec(ALICE, "192.0.2.77"))
    pinned = SessionSpec("game", SESSION, users)
    world = after(monkeypatch, left(monkeypatch), pinned, limits=Limits(pin_ip=True))
    assert set(world.served()) >= {(HOST, Port.SERVER)}
    finish(world)
    assert set(world.served()) == {(HOST, Port.SERVER)}


def test_a_session_with_a_rate_of_its_own_is_the_engines_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(session_datagrams_per_second=1000)
    world = after(monkeypatch, left(monkeypatch), spec(), limits=limits)
    finish(world)
    assert world.served() == {}


@pytest.mark.parametrize(
    "damage",
    [
        {"to_host_datagrams": 1 << 62},
        {"to_player_bytes": (1 << 64) - 1},
        {"limited_datagrams": 1 << 63},
        {"last_seen_ns": 1 << 63},
    ],
)
def test_what_nobody_can_have_counted_or_heard_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, damage: dict[str, int]
) -> None:
    """It would be billed, or would not fit into the state file; and whoever is heard tomorrow is never silent."""
    before = left(monkeypatch)
    slots = before.slots(ALICE, SESSION)
    assert slots is not None
    before.counts(slots[Port.CLIENT], **damage)
    world = after(monkeypatch, before, spec())
    finish(world)
    assert set(world.served()) == {(HOST, Port.SERVER), (BOB, Port.CLIENT)}
    assert world.relay.user(ALICE).traffic is None
    world.relay.player_pings()
    world.flush()
    assert (ALICE, Port.CLIENT) in world.served(), "it binds again"
    world.fast_path.absorb(world.relay.table.sessions.values())
    traffic = world.relay.user(ALICE).traffic
    assert traffic is not None
    assert traffic.to_host_datagrams == 0


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("counted", "taken_over"), [((1 << 64) - 1, 0), (1 << 61, 1 << 61), (4, 5)])
def test_totals_that_cannot_be_begin_anew(
    monkeypatch: pytest.MonkeyPatch, counted: int, taken_over: int, kept: bool
) -> None:
    before = left(monkeypatch)
    row = Verdict.ANSWERED.to_bytes(4, "little")
    before.map("totals").update(row, counted.to_bytes(8, "little") * 2)
    at = Verdict.ANSWERED * 16
    before.map("totals_taken_over").share()[at : at + 16] = taken_over.to_bytes(8, "little") * 2
    with capture_logs() as logs:
        world = FastPathWorld(monkeypatch, specs=(spec(),), program=before.program, counts_go_on=kept)
    assert "damaged" in logs[0]["event"]
    world.fast_path.absorb(())
    assert world.relay.engine.counters.datagrams[Port.SERVER][Verdict.ANSWERED] == 0
    world.map("totals").update(row, (7).to_bytes(8, "little") * 2)
    world.fast_path.absorb(())
    assert world.relay.engine.counters.datagrams[Port.SERVER][Verdict.ANSWERED] == 7


def test_entries_are_read_as_they_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left(monkeypatch)
    slots = before.slots(ALICE, SESSION)
    assert slots is not None
    entry = before.binding_at(slots[Port.CLIENT])
    assert layout.peer_address(entry)[:2] == ALICE_AT
    assert entry.session_index > 0
