"""Many datagrams in one batch: every byte right and every peer's in order, whether or not they leave merged."""

import random
import socket
import struct
from collections import Counter

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import encode_host_data, encode_ping, encode_player_data
from tests.thread import compiled
from tests.thread.rig import HOST, SESSION, VALID, C, Rig, S, received

pytestmark = compiled.needs_native

BATCH = 64
PLAYERS = 5
ROUNDS = 40
SIZES = (1, 2, 3, 99, 100, 100, 100, 1186, 1187)
UDP_GRO = 104
"""udp(7): whoever sets it gets merged datagrams as one, and is told the size of the parts."""

both = pytest.mark.parametrize("merge", [True, False])


def payload(number: int, size: int) -> bytes:
    """Different from every other as far as its length allows."""
    return (struct.pack("<I", number) * (size // 4 + 1))[:size]


@both
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_from_many_players_to_a_host(ip: str, merge: bool) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with Rig(ip, merge, started=False) as rig:
        host, players = rig.peer(), [rig.peer() for _ in range(PLAYERS)]
        rig.bind(host, S, HOST)
        slots = [rig.bind(peer, C, user, connection_id=user + 1) for user, peer in enumerate(players)]
        counts = [[0, 0] for _ in players]
        for _ in range(ROUNDS):
            expected = []
            for number in range(BATCH):
                user = chance.randrange(PLAYERS)
                content = payload(number, chance.choice(SIZES))
                datagram = encode_player_data(user, SESSION, content)
                rig.send(players[user], C, datagram)
                expected.append(b"\x02" + (user + 1).to_bytes(4, "little") + content)
                counts[user][0] += 1
                counts[user][1] += len(datagram)
            rig.forwarder.start()
            # To one peer all are in order, whoever they are from.
            assert received(host, BATCH) == expected, f"seed {seed}"
            rig.forwarder.stop()
        for slot, of_user in zip(slots, counts, strict=True):
            assert rig.forwarder.counts(slot) == (*of_user, 0, 0, 0, 0)
        total = sum(count for count, _ in counts), sum(size for _, size in counts)
        assert rig.totals() == {(C, Verdict.FORWARDED): total}


@both
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_from_a_host_to_many_players_who_are_answered_too(ip: str, merge: bool) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with Rig(ip, merge, started=False) as rig:
        host, players = rig.peer(), [rig.peer() for _ in range(PLAYERS)]
        rig.bind(host, S, HOST)
        slots = [rig.bind(peer, C, user, connection_id=user + 1) for user, peer in enumerate(players)]
        counts = [[0, 0] for _ in players]
        for _ in range(ROUNDS):
            expected: list[list[bytes]] = [[] for _ in players]
            answers = Counter(chance.randrange(PLAYERS) for _ in range(8))
            for user, pings in answers.items():
                rig.send(players[user], C, *[encode_ping(user, SESSION)] * pings)
            host_pings = 0
            for number in range(BATCH - 8):
                user = chance.randrange(PLAYERS + 1)
                if user == PLAYERS:
                    rig.send(host, S, encode_ping(HOST, SESSION) + bytes(number))
                    host_pings += 1
                    continue
                content = payload(number, chance.choice(SIZES))
                datagram = encode_host_data(HOST, SESSION, user + 1, content)
                rig.send(host, S, datagram)
                expected[user].append(b"\x02" + content)
                counts[user][0] += 1
                counts[user][1] += len(datagram)
            rig.forwarder.start()
            for user, peer in enumerate(players):
                heard = received(peer, len(expected[user]) + answers[user])
                assert [one for one in heard if one != VALID] == expected[user], f"seed {seed}"
                assert heard.count(VALID) == answers[user]
            assert received(host, host_pings) == [VALID] * host_pings
            rig.forwarder.stop()
        for slot, of_user in zip(slots, counts, strict=True):
            assert rig.forwarder.counts(slot) == (0, 0, *of_user, 0, 0)


@both
def test_merged_ones_leave_as_one_and_only_then(merge: bool) -> None:
    with Rig(merge=merge, started=False) as rig:
        host, players = rig.peer(), [rig.peer() for _ in range(2)]
        host.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        rig.bind(host, S, HOST)
        for user, peer in enumerate(players):
            rig.bind(peer, C, user, connection_id=user + 1)
        # The last of a merged one may be shorter, and none may be longer.
        for size in (100, 100, 100, 40, 100, 100, 200):
            for user in range(2) if size == 100 else [0]:
                rig.send(players[user], C, encode_player_data(user, SESSION, bytes(size)))
        rig.forwarder.start()
        wanted = (
            [[105] * 6 + [45], [105] * 4, [205]] if merge else [[size] for size in [105] * 6 + [45] + [105] * 4 + [205]]
        )
        assert [_sizes(host) for _ in wanted] == wanted


def _sizes(sock: socket.socket) -> list[int]:
    """Of the datagrams that came as one."""
    data, extras, _, _ = sock.recvmsg(65535, 64)
    if not extras:
        return [len(data)]
    ((level, kind, value),) = extras
    assert (level, kind) == (socket.IPPROTO_UDP, UDP_GRO)
    size = int.from_bytes(value, "little")
    return [min(size, len(data) - start) for start in range(0, len(data), size)]
