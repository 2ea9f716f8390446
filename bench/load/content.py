"""What stands in a datagram of the load, and in which order the flows take turns.

A payload is its number, the time it was sent, its flow, a check of these three, and then a pattern that depends on the
number. So whatever arrives says what it should look like, down to its last byte.

    number u64 · sent u64 (ns, CLOCK_REALTIME) · flow u32 · check u32 · pattern
"""

from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.load.messages import HEAD_BYTES, Words
from relayd.core.wire import MAX_PAYLOAD_BYTES

LEAST_PAYLOAD_BYTES = 24

FIXED_WORDS = LEAST_PAYLOAD_BYTES // 8
PATTERNS = 127
"""So many kinds of datagram there are, by length and pattern: datagram n is of kind n % PATTERNS. A prime, so that each
flow has all of them."""

_LOW = np.uint64(0xFFFF_FFFF)
_HIGH = np.uint64(0xFFFF_FFFF_0000_0000)
# Odd factors, so that every bit of a number tells in the upper half of the product (Knuth's multiplicative hashing).
_NUMBER, _TIME, _FLOW = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


def marks(numbers: Words, sent_ns: Words | np.uint64, flows: Words) -> Words:
    """The third word of a payload: the flow, and the check of number, time and flow."""
    with np.errstate(over="ignore"):
        mixed = (numbers * _NUMBER) ^ (sent_ns * _TIME) ^ (flows * _FLOW)
    marked: Words = (mixed & _HIGH) | flows
    return marked


def flows_of(marked: Words) -> Words:
    """The flow in a third word."""
    return marked & _LOW


class Kinds:
    """Lengths and patterns of the PATTERNS kinds of datagram.

    Args:
        payload_bytes: length by kind; repeated as often as needed.
    """

    def __init__(self, payload_bytes: tuple[int, ...]) -> None:
        self.payload_bytes: NDArray[np.uint64] = np.resize(np.array(payload_bytes, np.uint64), PATTERNS)
        if not LEAST_PAYLOAD_BYTES <= min(payload_bytes) <= max(payload_bytes) <= MAX_PAYLOAD_BYTES:
            raise ValueError(f"payloads must have {LEAST_PAYLOAD_BYTES} to {MAX_PAYLOAD_BYTES} bytes")
        self.longest_bytes = max(payload_bytes)
        width = -(-self.longest_bytes // 8) - FIXED_WORDS
        present = np.arange(width * 8)[None, :] < (self.payload_bytes.astype(np.int64)[:, None] - LEAST_PAYLOAD_BYTES)
        self.masks: Words = np.where(present, np.uint8(0xFF), np.uint8(0)).view(np.uint64)
        noise = np.random.default_rng(1).integers(0, 2**64, (PATTERNS, width), np.uint64)
        self.patterns: Words = noise & self.masks


class Order:
    """Which flow and which socket a number belongs to: flows are spread over sockets, which send a block at a time.

    Args:
        flows: how many.
        sockets: how many on the sending side; flow f belongs to socket f % sockets.
        block: datagrams that a socket sends in a row.
    """

    def __init__(self, flows: int, sockets: int, block: int) -> None:
        if flows % sockets:
            raise ValueError("every socket must have as many flows as any other")
        self.sockets = sockets
        self.block = block
        each = flows // sockets
        numbers = np.arange(sockets * lcm(each, block))
        blocks = numbers // block
        nth_of_socket = blocks // sockets * block + numbers % block
        self.flows: Words = ((nth_of_socket % each) * sockets + blocks % sockets).astype(np.uint64)
        self.period = len(numbers)


class Way(NamedTuple):
    """One direction of the load through a relay, by flow: what to put before a payload, where to, what to expect."""

    heads: NDArray[np.uint8]
    """Rows of HEAD_BYTES bytes; the last ``head_bytes`` of a row are sent."""
    head_bytes: int
    addresses: NDArray[np.uint8]
    """Rows of struct sockaddr_in."""
    arriving_heads: NDArray[np.uint8]
    """The same as heads, at the other end."""
    arriving_head_bytes: int
    length_in_head: bool = False
    """Whether the head that is sent ends with the length of the payload, u16 big-endian, as TURN's ChannelData."""
    length_in_arriving_head: bool = False


def length_words(kinds: Kinds) -> Words:
    """By kind, what to add to the last word of a head such that it ends with the length of the payload."""
    # The last two bytes of a little-endian word.
    return kinds.payload_bytes.astype(">u2").view("<u2").astype(np.uint64) << np.uint64(48)


def heads(rows: list[bytes]) -> NDArray[np.uint8]:
    """One head per flow, set right in its row."""
    return np.frombuffer(b"".join(row.rjust(HEAD_BYTES, b"\0") for row in rows), np.uint8).reshape(-1, HEAD_BYTES)


def no_heads(flows: int) -> NDArray[np.uint8]:
    """For a relay that puts nothing before a payload."""
    return np.zeros((flows, HEAD_BYTES), np.uint8)
