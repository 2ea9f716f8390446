"""The simulated game's messages: a single altered byte is noticed, wherever it stands."""

import random

import pytest

from relayd.simulation.payload import MIN_PAYLOAD_BYTES, Payload
from relayd.simulation.peers import _SIZES_BYTES

MESSAGE = Payload(cookie=0xDEAD_BEEF, game=0x0102_0304, player=7, sequence=41, sent_ns=1 << 50, echo_ns=(1 << 51) + 3)


@pytest.mark.parametrize("size", sorted({MIN_PAYLOAD_BYTES, 45, *_SIZES_BYTES, 1187}))
def test_it_comes_back_as_it_was(size: int) -> None:
    data = MESSAGE.encode(size)
    assert len(data) == size
    assert Payload.decode(data) == MESSAGE


def test_its_cookie_stands_where_kcps_does() -> None:
    """A zero cookie in payload bytes 1 to 4 is what a relay knows a new connection by."""
    assert MESSAGE._replace(cookie=0).encode(45)[1:5] == bytes(4)
    assert MESSAGE.encode(45)[1:5] == (0xDEAD_BEEF).to_bytes(4, "little")


def test_any_single_altered_byte_is_noticed() -> None:
    data = MESSAGE.encode(120)
    for position in range(len(data)):
        for value in range(256):
            if value != data[position]:
                assert Payload.decode(data[:position] + bytes((value,)) + data[position + 1 :]) is None


def test_lost_and_added_bytes_are_noticed() -> None:
    data = MESSAGE.encode(120)
    for length in range(len(data)):
        assert Payload.decode(data[:length]) is None
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(1000):
        at = chance.randrange(len(data) + 1)
        altered = data[:at] + bytes((chance.randrange(256),)) + data[at:]
        assert altered == data or Payload.decode(altered) is None, f"seed {seed}"
    for at in range(len(data)):
        assert Payload.decode(data[:at] + data[at + 1 :]) is None
