"""What is sent: datagrams of recorded games, half of them changed, from where they belong or from elsewhere."""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from fuzz import recorded
from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address
from relayd.core.wire import DATA, HEADER_BYTES, HOST_DATA_HEADER_BYTES, MAX_DATAGRAM_BYTES, Port

FIRST_CONNECTION = 0x0101
SECOND_SESSION = recorded.SESSION + 1
ADDRESSES: tuple[Address, ...] = (
    ("10.77.0.50", 7000),
    ("10.77.0.51", 7000),
    ("10.77.0.51", 7001),
    ("fd77::32", 7000, 0, 0),
    ("10.77.0.53", 7000),
    ("10.77.0.1", 45001),
)
"""The first are where users are at home; the last is the relay's own."""

LIMITS: tuple[dict[str, object], ...] = (
    {},
    {"pin_ip": True},
    {"host_policy": "strict"},
    {"max_bound_users": 3, "user_timeout": 4.0, "session_idle_timeout": 16.0},
    {"denied_networks": ["10.77.0.53/32"], "connection_id_policy": "per_address"},
    {"user_datagrams_per_second": 16, "host_datagrams_per_second": 64, "session_datagrams_per_second": 64},
    {"user_bytes_per_second": 1280, "host_bytes_per_second": 5120},
    {"guesses_per_second": 8, "guesses_per_source_per_second": 4, "rebind_after": 0},
    {"refusals_per_second": 16, "refusals_per_source_per_second": 4, "host_policy": "any"},
)
"""Of relays one after another. Rates are such that times are exact in a double."""
USUAL_LIMITS: dict[str, object] = {
    "guesses_per_second": 1024,
    "guesses_per_source_per_second": 1024,
    "refusals_per_second": 1024,
    "refusals_per_source_per_second": 1024,
}

_BEGINNING = 400
"""Datagrams of each game that are changed: what comes then looks like what came before."""
_PLAIN_SHARE = 0.5
_HOME_SHARE = 0.85
_TYPES = (0, 1, 2, 3, 16, 255)
_LENGTHS = (0, 1, 8, 9, 10, 12, 13, 14, MAX_DATAGRAM_BYTES - 1, MAX_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES + 1, 1400)
_CONNECTIONS = (*range(FIRST_CONNECTION, FIRST_CONNECTION + 12), 0, 0xFFFFFFFF, 0x7FFFFFFF)


class Sent(NamedTuple):
    """A datagram, and who sends it where."""

    port: Port
    source: Address
    datagram: bytes

    @property
    def is_ipv6(self) -> bool:
        """Whether it comes over IPv6."""
        return len(self.source) > 2


def sessions(without: Sequence[int] = ()) -> list[SessionSpec]:
    """Two with the same users, but for those who were taken out."""
    users = tuple(
        UserSpec(user, ADDRESSES[number][0]) for number, user in enumerate(recorded.USERS) if user not in without
    )
    return [SessionSpec("a", recorded.SESSION, users), SessionSpec("b", SECOND_SESSION, users)]


class Mutator:
    """Changes datagrams of all recorded games.

    Args:
        random: chooses which and how.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._recorded = [
            (Port.SERVER if one.port == "server" else Port.CLIENT, one.datagram)
            for name in recorded.GAMES
            for one in list(recorded.arrivals(name))[:_BEGINNING]
        ]
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._other_type,
            self._other_length,
            self._token_beside,
            self._token_of_another,
            self._tokens_swapped,
            self._other_session,
            self._other_connection,
            self._some_bits,
            self._any_bytes,
            self._end_of_another,
        )

    def pool(self, count: int) -> list[Sent]:
        """So many, to be sent in whichever order and as often as one likes."""
        return [self._one() for _ in range(count)]

    def _one(self) -> Sent:
        choose = self._random
        port, original = choose.choice(self._recorded)
        datagram = bytearray(original)
        if port is Port.SERVER and datagram[8] == DATA:
            self._other_connection(datagram)
        if choose.random() >= _PLAIN_SHARE:
            for change in choose.choices(self._changes, k=choose.choice((1, 1, 2))):
                change(datagram)
        user = int.from_bytes(original[:4], "little")
        source = ADDRESSES[recorded.USERS.index(user)]
        if choose.random() >= _HOME_SHARE:
            source, port = choose.choice(ADDRESSES), choose.choice((port, Port.SERVER, Port.CLIENT))
        return Sent(port, source, bytes(datagram))

    def _other_type(self, datagram: bytearray) -> None:
        datagram[8:9] = bytes((self._random.choice(_TYPES),))

    def _other_length(self, datagram: bytearray) -> None:
        length = self._random.choice((*_LENGTHS, self._random.randrange(64)))
        datagram[:] = datagram[:length].ljust(length, b"\0")

    def _token_beside(self, datagram: bytearray) -> None:
        """One bit or one number away from a right one."""
        at = self._random.choice((0, 4))
        token = int.from_bytes(datagram[at : at + 4], "little")
        token ^= self._random.choice((1, 3, 1 << self._random.randrange(32)))
        datagram[at : at + 4] = token.to_bytes(4, "little")

    def _token_of_another(self, datagram: bytearray) -> None:
        datagram[:4] = self._random.choice(recorded.USERS).to_bytes(4, "little")

    def _tokens_swapped(self, datagram: bytearray) -> None:
        datagram[:8] = datagram[4:8] + datagram[:4]

    def _other_session(self, datagram: bytearray) -> None:
        datagram[4:8] = SECOND_SESSION.to_bytes(4, "little")

    def _other_connection(self, datagram: bytearray) -> None:
        datagram[HEADER_BYTES:HOST_DATA_HEADER_BYTES] = self._random.choice(_CONNECTIONS).to_bytes(4, "little")

    def _some_bits(self, datagram: bytearray) -> None:
        for _ in range(self._random.randint(1, 8) if datagram else 0):
            datagram[self._random.randrange(len(datagram))] ^= 1 << self._random.randrange(8)

    def _any_bytes(self, datagram: bytearray) -> None:
        datagram[self._random.randrange(13) :] = self._random.randbytes(self._random.randrange(40))

    def _end_of_another(self, datagram: bytearray) -> None:
        at = self._random.randrange(16)
        datagram[at:] = self._random.choice(self._recorded)[1][at:]
