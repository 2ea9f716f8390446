"""The wire format: bytes to header fields and back. Every offset and constant of the protocol is here.

All integers are little-endian. What arrives at the relay carries both authorization tokens; what leaves it
carries none:

    player → client port   user u32 · session u32 · 01                              PING
                           user u32 · session u32 · 02 · payload                    DATA
    host → server port     user u32 · session u32 · 01                              PING
                           user u32 · session u32 · 02 · connection_id i32 · payload  DATA
    relay → both           01 · state u8                                            PING
    relay → player         02 · payload                                             DATA
    relay → host           02 · connection_id i32 · payload                         DATA
"""

import enum
import struct

PING = 0x01
DATA = 0x02

USER_OFFSET = 0
SESSION_OFFSET = 4
TYPE_OFFSET = 8

HEADER_BYTES = 9
"""Both tokens and the type: all of a PING, and what stands before a player's payload."""

HOST_DATA_HEADER_BYTES = 13
"""The same with the connection id, which stands before a host's payload."""

TO_HOST_HEADER_BYTES = 5
"""What stands before the payload on the relay's way to a host: type and connection id."""

TO_PLAYER_HEADER_BYTES = 1
"""What stands before the payload on the relay's way to a player: the type."""

STATE_BYTES = 2
"""All of a PING of the relay: type and state."""

MAX_DATAGRAM_BYTES = 1200
"""Longest datagram towards the relay, so that no leg is ever fragmented."""

MAX_PAYLOAD_BYTES = MAX_DATAGRAM_BYTES - HOST_DATA_HEADER_BYTES
"""1,187: what fits in both directions."""

COOKIE_OFFSET = HEADER_BYTES + 1
"""A player's payload begins with KCP's channel byte; its connection cookie follows."""

ZERO_COOKIE = bytes(4)
"""The cookie of a KCP client that has not yet been answered: the sign of a new connection."""

MAX_TOKEN = 0xFFFF_FFFF
MAX_CONNECTION_ID = 0x7FFF_FFFF

_HEADER = struct.Struct("<IIB")
_CONNECTION_ID = struct.Struct("<i")
_HOST_DATA = struct.Struct("<IIBi")
_TO_HOST = struct.Struct("<Bi")

unpack_header = _HEADER.unpack_from
"""``unpack_header(datagram) -> (user token, session token, type)``; needs HEADER_BYTES bytes."""


class Port(enum.IntEnum):
    """The relay's two UDP ports; the values index counters."""

    SERVER = 0
    CLIENT = 1

    @property
    def label(self) -> str:
        """The name in metrics, API and logs."""
        return self.name.lower()


class State(enum.IntEnum):
    """What the relay tells a peer of itself, as the second byte of a PING."""

    DISCONNECTED = 0
    CHECKING = 1
    VALID = 2
    INVALID = 3
    SESSION_TIMEOUT = 4
    ERROR = 5


STATE_DATAGRAM: dict[State, bytes] = {state: bytes((PING, state)) for state in State}
"""The answer to a PING, for each state."""


def connection_id(host_data: bytes) -> int:
    """The connection id of a host's DATA of at least HOST_DATA_HEADER_BYTES bytes."""
    value: int = _CONNECTION_ID.unpack_from(host_data, HEADER_BYTES)[0]
    return value


def opens_connection(player_data: bytes) -> bool:
    """Whether a player's DATA is the first of a new KCP connection, which is to say has a zero cookie."""
    return player_data[COOKIE_OFFSET : COOKIE_OFFSET + 4] == ZERO_COOKIE


def to_host_header(connection_id: int) -> bytes:
    """What stands before the payload on the relay's way to the host."""
    return _TO_HOST.pack(DATA, connection_id)


TO_PLAYER_HEADER = bytes((DATA,))
"""What stands before the payload on the relay's way to a player."""


def encode_ping(user: int, session: int) -> bytes:
    """A PING as either side sends it to the relay."""
    return _HEADER.pack(user, session, PING)


def encode_player_data(user: int, session: int, payload: bytes) -> bytes:
    """A player's DATA to the client port."""
    return _HEADER.pack(user, session, DATA) + payload


def encode_host_data(user: int, session: int, connection_id: int, payload: bytes) -> bytes:
    """The host's DATA to the server port, for the player the relay named ``connection_id``."""
    return _HOST_DATA.pack(user, session, DATA, connection_id) + payload


def decode_state(datagram: bytes) -> State | None:
    """The state in a PING of the relay, or None for anything else."""
    if len(datagram) == STATE_BYTES and datagram[0] == PING and datagram[1] in State.__members__.values():
        return State(datagram[1])
    return None


def decode_to_host(datagram: bytes) -> tuple[int, bytes] | None:
    """``(connection id, payload)`` of the relay's DATA to a host, or None for anything else."""
    if len(datagram) > TO_HOST_HEADER_BYTES and datagram[0] == DATA:
        return _TO_HOST.unpack_from(datagram)[1], datagram[TO_HOST_HEADER_BYTES:]
    return None


def decode_to_player(datagram: bytes) -> bytes | None:
    """The payload of the relay's DATA to a player, or None for anything else."""
    if len(datagram) > TO_PLAYER_HEADER_BYTES and datagram[0] == DATA:
        return datagram[TO_PLAYER_HEADER_BYTES:]
    return None
