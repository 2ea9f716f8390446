"""Taking over what a process before left in the maps, among many users: exactly those who are still named."""

import asyncio
import random
import time
from typing import NamedTuple

import pytest

from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from relayd.forwarding.kernel import layout
from tests.scenarios.rig import XDP_TX, Rig
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

SESSIONS, USERS = 2000, 10
PLAYERS = 3
"""Of each session that are bound, beside its host."""


class Before(NamedTuple):
    """A binding as it was before the restart."""

    slot: int
    address: tuple[str, int]
    connection_id: int


def session_token(number: int) -> int:
    return 0x1000_0000 + number


def user_token(number: int, user: int) -> int:
    return 0x4000_0000 + 16 * number + user


def address(number: int, user: int) -> tuple[str, int]:
    return f"10.77.{1 + user}.{1 + number % 250}", 1024 + number


def users_after(number: int) -> list[int]:
    """Whom the source still names: all, none, all but a player, or one more."""
    users = list(range(USERS))
    return [users, [], [*users[:2], *users[3:]], [*users, USERS]][number % 4]


def authorize(rig: Rig, users: dict[int, list[int]]) -> None:
    rig.authorize(
        *(
            (f"s{number}", session_token(number), tuple(user_token(number, user) for user in those))
            for number, those in users.items()
            if those
        )
    )


def bind_all(rig: Rig) -> None:
    now = time.monotonic()
    for number in range(SESSIONS):
        for user in range(1 + PLAYERS):
            ping = encode_ping(user_token(number, user), session_token(number))
            rig.engine.handle(rig.endpoints[user > 0], ping, address(number, user), now)
    rig.fast_path.mirror.flush()


def served(rig: Rig) -> dict[tuple[int, int], Before]:
    """What the kernel serves, by the maps alone: (session, user) → binding."""
    maps = rig.program.maps
    found = {}
    for key, value in maps["pairs"].items():
        pair, slots = layout.PairKey.from_buffer_copy(key), layout.Pair.from_buffer_copy(value).slots
        for port in Port:
            if slots[port]:
                entry = layout.Binding.from_buffer_copy(
                    maps["bindings"].lookup(slots[port].to_bytes(4, "little")) or b""
                )
                assert (entry.user, entry.session) == (pair.user, pair.session)
                peer = layout.peer_address(entry)
                found[pair.session, pair.user] = Before(slots[port], (peer[0], peer[1]), entry.connection_id)
    return found


def connections(rig: Rig) -> dict[tuple[int, int], int]:
    found = {}
    for key, value in rig.program.map("connections").items():
        entry = layout.ConnectionKey.from_buffer_copy(key)
        found[entry.session, entry.connection_id] = int.from_bytes(value, "little")
    return found


def sessions(rig: Rig) -> dict[int, int]:
    """Token → slot of the host."""
    entries = [layout.Session.from_buffer_copy(value) for _, value in rig.program.map("sessions").items()]
    return {entry.token: entry.host_slot for entry in entries if entry.token}


def to_host(rig: Rig, number: int, player: int) -> bytes:
    data = encode_player_data(user_token(number, player), session_token(number), b"\x01some payload")
    return rig.frame(*address(number, player), Port.CLIENT, data)


def play(rig: Rig, number: int) -> None:
    """Both are heard by the kernel, which then forwards ten datagrams to the host."""
    ping = encode_ping(user_token(number, 0), session_token(number))
    assert rig.run(rig.frame(*address(number, 0), Port.SERVER, ping)).exit == XDP_TX
    for _ in range(10):
        assert rig.run(to_host(rig, number, 1)).verdict is Verdict.FORWARDED


def to_host_datagrams(rig: Rig, number: int) -> int:
    session = rig.table.by_token[session_token(number)]
    rig.fast_path.absorb([session])
    return session.traffic().to_host_datagrams


@pytest.fixture(scope="module")
def expected() -> dict[int, list[int]]:
    after = {number: users_after(number) for number in range(SESSIONS)}
    return after | {number: list(range(USERS)) for number in range(SESSIONS, SESSIONS + 50)}


def test_exactly_those_who_are_still_named(expected: dict[int, list[int]]) -> None:
    with Rig(bound=SESSIONS * (1 + PLAYERS) + 10, authorized=SESSIONS * (USERS + 1)) as rig:
        authorize(rig, {number: list(range(USERS)) for number in range(SESSIONS)})
        bind_all(rig)
        before = served(rig)
        assert len(before) == SESSIONS * (1 + PLAYERS)
        play(rig, 0)
        play(rig, 2)

        rig.start(adopt=True)
        play(rig, 0)  # no source has spoken yet, and games go on
        authorize(rig, expected)
        rig.network.run(asyncio.run, rig.fast_path.tick())

        assert rig.fast_path.adoption is None
        named = {
            (session_token(number), user_token(number, user)) for number, users in expected.items() for user in users
        }
        keys = [layout.PairKey.from_buffer_copy(key) for key, _ in rig.program.map("pairs").items()]
        assert {(key.session, key.user) for key in keys} == named
        still = {key: binding for key, binding in before.items() if key in named}
        assert served(rig) == still
        assert connections(rig) == {
            (session, binding.connection_id): binding.slot
            for (session, _), binding in still.items()
            if binding.connection_id
        }
        hosts = {session: binding.slot for (session, _), binding in still.items() if not binding.connection_id}
        assert sessions(rig) == hosts
        assert sum(rig.table.bound) == len(still)
        slots = rig.fast_path.mirror.slots
        taken = {binding.slot for binding in still.values()}
        assert len(slots._free) == len(set(slots._free)) == slots.most - len(taken)
        assert not taken & set(slots._free)
        indexes = rig.fast_path.mirror.indexes
        assert len(indexes._free) == len(set(indexes._free)) == indexes.most - len(hosts)

        play(rig, 0)
        play(rig, 2)
        assert [to_host_datagrams(rig, number) for number in (0, 2)] == [30, 20]
        rig.fast_path.totals.absorb()
        assert rig.engine.counters.datagrams[Port.CLIENT][Verdict.FORWARDED] == 50
        for number, player in ((1, 1), (2, 2)):
            assert rig.run(to_host(rig, number, player)).exit != XDP_TX


def test_a_session_that_ends_before_the_end_of_it() -> None:
    """Its place is given out again once, not twice."""
    with Rig() as rig:
        rig.authorize(("s0", session_token(0), (user_token(0, 0), user_token(0, 1))))
        for user in (0, 1):
            ping = encode_ping(user_token(0, user), session_token(0))
            rig.handle(rig.frame(*address(0, user), Port(user), ping))
        rig.start(adopt=True)
        rig.authorize(("s0", session_token(0), (user_token(0, 0), user_token(0, 1))))
        rig.authorize()
        rig.network.run(asyncio.run, rig.fast_path.tick())
        for numbers in (rig.fast_path.mirror.slots, rig.fast_path.mirror.indexes):
            assert sorted(numbers._free) == list(range(1, numbers.most + 1))


@pytest.mark.parametrize("limits", [Limits(pin_ip=True), Limits(session_datagrams_per_second=10)])
def test_what_the_settings_forbid_by_now_is_not_adopted(limits: Limits) -> None:
    session = ("s0", session_token(0), (user_token(0, 0), user_token(0, 1)))
    with Rig() as rig:
        rig.authorize(session)
        for user in (0, 1):
            ping = encode_ping(user_token(0, user), session_token(0))
            rig.handle(rig.frame(*address(0, user), Port(user), ping))
        assert len(served(rig)) == 2
        rig.settings = rig.settings.model_copy(update={"limits": limits})
        rig.start(adopt=True)
        rig.authorize(session)
        rig.network.run(asyncio.run, rig.fast_path.tick())
        assert (served(rig), connections(rig), sum(rig.table.bound)) == ({}, {}, 0)
        for numbers in (rig.fast_path.mirror.slots, rig.fast_path.mirror.indexes):
            assert sorted(numbers._free) == list(range(1, numbers.most + 1))


def damage(rig: Rig, chance: random.Random) -> None:
    """Writes something else to a few places of the maps that are read at the start."""
    maps = rig.program.maps
    for _ in range(chance.randrange(1, 12)):
        one = maps[chance.choice(("bindings", "bindings", "pairs", "sessions", "connections"))]
        entries = list(one.items())
        if not entries:
            continue
        key, value = chance.choice(entries[:32])
        changed = bytearray(value)
        at = chance.randrange(len(changed))
        new = chance.choice((b"\0", b"\xff", b"\xff" * 4, bytes(4), chance.randbytes(4), changed[:4]))
        changed[at : at + len(new)] = new[: len(changed) - at]
        one.update(key, bytes(changed))


def test_maps_with_anything_in_them_are_taken_over_as_far_as_it_can_be_true() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    chance = random.Random(seed)
    sessions = [
        (f"s{number}", session_token(number), (user_token(number, 0), user_token(number, 1))) for number in (0, 1)
    ]
    with Rig(bound=8, authorized=16) as rig:
        for _ in range(40):
            rig.authorize(*sessions)
            for number in (0, 1):
                for user in (0, 1):
                    ping = encode_ping(user_token(number, user), session_token(number))
                    rig.handle(rig.frame(*address(number, user), Port(user), ping))
            damage(rig, chance)
            rig.start(adopt=True)
            rig.authorize(*sessions)
            rig.network.run(asyncio.run, rig.fast_path.tick())
            mirror = rig.fast_path.mirror
            for numbers, taken in (
                (mirror.slots, list(mirror.slot_of.values())),
                (mirror.indexes, [row.index for row in mirror.rows.values()]),
            ):
                assert sorted([*numbers._free, *taken]) == list(range(1, numbers.most + 1))
            for binding in mirror.slot_of:
                assert binding.address[1] > 0
                assert binding.user.connection_id > 0 or binding.port is Port.SERVER
            rig.authorize()
            rig.network.run(asyncio.run, rig.fast_path.tick())
            assert list(rig.program.map("pairs").items()) == []
            for numbers in (mirror.slots, mirror.indexes):
                assert sorted(numbers._free) == list(range(1, numbers.most + 1))
