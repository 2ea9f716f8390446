"""The program knows where users are bound that it does not serve, whatever becomes of them."""

import errno
import socket

import pytest

from relayd.core.declaration.kernel_maps import PLACE
from relayd.core.limits import Limits
from relayd.core.wire import Port
from tests.support.fast_paths import FastPathWorld
from tests.support.relays import ALICE, ALICE_AT, ALICE_MOVED, BOB, BOB_AT, HOST, HOST_AT, ONGOING, SESSION, spec

LINK_LOCAL = ("fe80::7", 5000)
SESSION_RATE = Limits(session_datagrams_per_second=1000)


def places(world: FastPathWorld) -> set[tuple[tuple[str, int], Port]]:
    """Whom the sockets serve, as the program is told."""
    found = set()
    for key in world.map("by_sockets").entries:
        packed, udp_port, port, endpoint = PLACE.packing().unpack(key)
        assert endpoint == 1
        is_ipv4 = packed.startswith(bytes(10) + b"\xff\xff")
        ip = socket.inet_ntop(socket.AF_INET, packed[12:]) if is_ipv4 else socket.inet_ntop(socket.AF_INET6, packed)
        found.add(((ip, int.from_bytes(udp_port, "big")), Port(port)))
    return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FastPathWorld:
    return FastPathWorld(monkeypatch)


def test_nobody_whom_the_program_serves(world: FastPathWorld) -> None:
    world.bind()
    assert places(world) == set()


def test_who_moved_while_it_is_undecided(world: FastPathWorld) -> None:
    world.bind()
    world.relay.now += 5.0
    world.relay.player_pings(source=ALICE_MOVED)
    world.flush()
    assert places(world) == {(ALICE_MOVED, Port.CLIENT)}
    world.relay.player_sends(ONGOING, source=ALICE_MOVED)
    world.flush()
    assert places(world) == set()


def test_a_session_while_it_is_watched(world: FastPathWorld) -> None:
    world.bind()
    session = world.relay.table.sessions["game"]
    world.relay.table.watch(session, world.relay.now)
    assert places(world) == {(HOST_AT, Port.SERVER), (ALICE_AT, Port.CLIENT)}, "at once: it plays on"
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    assert (BOB_AT, Port.CLIENT) in places(world)
    world.relay.table.unwatch(session, world.relay.now)
    world.flush()
    assert places(world) == set()
    assert len(world.served()) == 3


def test_a_link_local_peer_until_it_leaves(world: FastPathWorld) -> None:
    world.relay.player_pings(source=LINK_LOCAL)
    world.flush()
    assert places(world) == {(LINK_LOCAL, Port.CLIENT)}
    world.relay.apply()
    assert places(world) == set()


def test_who_found_no_slot_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, bound=1)
    world.bind()
    assert places(world) == {(ALICE_AT, Port.CLIENT)}


@pytest.mark.parametrize("name", ["pairs", "bindings", "connections"])
def test_who_found_no_room_in_another_map(world: FastPathWorld, name: str) -> None:
    world.relay.player_pings()
    world.map(name).failure = errno.ENOMEM
    world.flush()
    assert places(world) == {(ALICE_AT, Port.CLIENT)}


def test_two_users_at_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, limits=SESSION_RATE)
    for user in (ALICE, BOB):
        world.relay.player_pings(user, ALICE_AT)
    world.flush()
    assert places(world) == {(ALICE_AT, Port.CLIENT)}
    world.relay.apply(spec(users=(HOST, BOB)))
    assert places(world) == {(ALICE_AT, Port.CLIENT)}, "Bob is there still"
    world.relay.apply(spec(users=(HOST,)))
    assert places(world) == set()


def test_when_there_is_room_again_whoever_had_none_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, limits=SESSION_RATE, bound=1)
    by_sockets = world.fast_path.mirror.by_sockets
    world.bind()
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    assert len(places(world)) == 2
    assert not by_sockets.complete
    world.relay.apply(spec(users=(HOST, BOB)))
    assert places(world) == {(HOST_AT, Port.SERVER), (BOB_AT, Port.CLIENT)}
    assert by_sockets.complete


def test_who_had_no_room_and_left_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FastPathWorld(monkeypatch, limits=SESSION_RATE, bound=1)
    world.bind()
    world.relay.player_pings(BOB, BOB_AT)
    world.flush()
    world.relay.apply(spec(users=(HOST, ALICE)))
    assert world.fast_path.mirror.by_sockets.complete
    assert places(world) == {(HOST_AT, Port.SERVER), (ALICE_AT, Port.CLIENT)}


def test_a_new_process_forgets_what_the_one_before_served(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FastPathWorld(monkeypatch, limits=SESSION_RATE)
    before.bind()
    assert len(places(before)) == 2
    after = FastPathWorld(monkeypatch, program=before.program)
    assert places(after) == set()
    assert after.slots(ALICE, SESSION) == (0, 0)
