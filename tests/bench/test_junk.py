"""The junk of a flood: whole packets, of all kinds, and from everywhere."""

import random
from collections import Counter

from bench.junk import Junk, Target
from relayd.core.wire import HEADER_BYTES, MAX_DATAGRAM_BYTES

TARGET = Target(9000, 9001, session=7, host=1, players=(2, 3))
_UDP_HEADER = 8


def packets() -> list[bytes]:
    junk = Junk(TARGET, random.Random(1))
    return [junk.packet() for _ in range(2000)]


def test_each_says_where_it_goes_and_how_long_it_is() -> None:
    for packet in packets():
        assert packet[0] == 0x45
        assert packet[9] == 17
        assert packet[16:20] == bytes((127, 0, 0, 1))
        assert int.from_bytes(packet[22:24], "big") in (TARGET.server_port, TARGET.client_port)
        assert int.from_bytes(packet[24:26], "big") == len(packet) - 20


def test_all_kinds() -> None:
    found: Counter[str] = Counter()
    for packet in packets():
        payload = packet[20 + _UDP_HEADER :]
        found["port 0"] += packet[20:22] == b"\0\0"
        found["from many"] += packet[12] == 224
        found["from the relay"] += packet[12:16] == packet[16:20]
        if len(payload) < HEADER_BYTES:
            found["short"] += 1
        elif len(payload) > MAX_DATAGRAM_BYTES:
            found["long"] += 1
        else:
            user, session = (int.from_bytes(payload[start : start + 4], "little") for start in (0, 4))
            found["right tokens"] += session == TARGET.session and user in TARGET.players
            found["right session"] += session == TARGET.session and user not in TARGET.players
            found["unknown"] += session != TARGET.session
            found["type"] += payload[8] not in (1, 2)
            found["no payload"] += len(payload) == HEADER_BYTES and payload[8] == 2
    assert all(count >= 10 for count in found.values()), found
    assert len({packet[12:16] for packet in packets()}) > 1000
