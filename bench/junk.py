"""Junk of all kinds, as whole IPv4 packets, so that it comes from wherever it says it does."""

import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.sender import BatchSender
from relayd.core.wire import DATA, MAX_DATAGRAM_BYTES, PING, encode_ping, encode_player_data

_BATCH = 100
_BATCHES = 1000
_IPV4 = struct.Struct("<BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_TIME_TO_LIVE = 64
_LOOPBACK = bytes((127, 0, 0, 1))
_PAYLOAD = bytes(40)
_LONGEST_BYTES = 1400


class Target(NamedTuple):
    """A game, and where its relay is: on 127.0.0.1."""

    server_port: int
    client_port: int
    session: int
    host: int
    players: Sequence[int]


class Junk:
    """Makes it.

    Args:
        target: whom it is to disturb.
        chance: the same seed makes the same junk.
    """

    def __init__(self, target: Target, chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self._kinds: dict[Callable[[], bytes], int] = {
            self._short: 15,
            self._long: 5,
            self._unknown_type: 10,
            self._without_payload: 5,
            self._unknown_data: 25,
            self._unknown_ping: 10,
            self._wrong_user: 15,
            self._right_tokens: 10,
            self._from_nowhere: 5,
        }

    def packet(self) -> bytes:
        """One, of any kind."""
        (make,) = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        return make()

    def _token(self) -> int:
        return self._chance.getrandbits(32)

    def _short(self) -> bytes:
        return self._somewhere(self._chance.randbytes(self._chance.randrange(9)))

    def _long(self) -> bytes:
        return self._somewhere(self._chance.randbytes(self._chance.randrange(MAX_DATAGRAM_BYTES + 1, _LONGEST_BYTES)))

    def _unknown_type(self) -> bytes:
        kind = self._chance.choice([number for number in range(256) if number not in (PING, DATA)])
        return self._somewhere(self._chance.randbytes(8) + bytes((kind,)) + _PAYLOAD)

    def _without_payload(self) -> bytes:
        return self._somewhere(encode_player_data(self._token(), self._token(), b""))

    def _unknown_data(self) -> bytes:
        return self._somewhere(encode_player_data(self._token(), self._token(), _PAYLOAD))

    def _unknown_ping(self) -> bytes:
        return self._somewhere(encode_ping(self._token(), self._token()))

    def _wrong_user(self) -> bytes:
        return self._somewhere(encode_player_data(self._token(), self._target.session, _PAYLOAD))

    def _right_tokens(self) -> bytes:
        """All that the relay can tell it by is where it comes from."""
        user = self._chance.choice(self._target.players)
        return self._packet(
            self._source(), self._port(), self._target.client_port, encode_ping(user, self._target.session)
        )

    def _from_nowhere(self) -> bytes:
        """From where no peer can be: many, nobody, the relay itself."""
        source, port = self._chance.choice(
            [
                (bytes((224, 0, 0, self._chance.randrange(1, 255))), self._port()),
                (bytes((255, 255, 255, 255)), self._port()),
                (self._source(), 0),
                (_LOOPBACK, self._target.server_port),
                (_LOOPBACK, self._target.client_port),
            ]
        )
        return self._packet(source, port, self._target.client_port, encode_ping(self._token(), self._target.session))

    def _source(self) -> bytes:
        """A few come again and again, most come once."""
        if self._chance.random() < 0.2:
            return bytes((127, 9, 9, self._chance.randrange(1, 8)))
        first = self._chance.choice((bytes((127,)), bytes((198, 18)), bytes((203, 0, 113))))
        return first + self._chance.randbytes(4 - len(first))

    def _port(self) -> int:
        return self._chance.randrange(1, 1 << 16)

    def _somewhere(self, payload: bytes) -> bytes:
        port = self._chance.choice((self._target.server_port, self._target.client_port))
        return self._packet(self._source(), self._port(), port, payload)

    def _packet(self, source: bytes, source_port: int, port: int, payload: bytes) -> bytes:
        """Length, identification and checksum of the IP header are the kernel's to fill in: raw(7)."""
        udp = _UDP.pack(source_port, port, _UDP.size + len(payload), 0) + payload
        return _IPV4.pack(0x45, 0, 0, 0, 0, _TIME_TO_LIVE, socket.IPPROTO_UDP, 0, source, _LOOPBACK) + udp


def flood(target: Target, per_second: int, seconds: float, seed: int) -> int:
    """Sends junk at the rate until the time is over. Returns how many packets. Needs root."""
    junk = Junk(target, random.Random(seed))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.connect(("127.0.0.1", 0))
        batches = [_batch(sock, [junk.packet() for _ in range(_BATCH)]) for _ in range(_BATCHES)]
        began = time.perf_counter()
        sent = turn = 0
        while (now := time.perf_counter() - began) < seconds:
            ahead_seconds = sent / per_second - now
            if ahead_seconds > 0:
                time.sleep(ahead_seconds)
            sent += batches[turn % _BATCHES].send()
            turn += 1
    return sent


def _batch(sock: socket.socket, packets: list[bytes]) -> BatchSender:
    sender = BatchSender(sock, [len(packet) for packet in packets])
    sender.fill(b"".join(packets))
    return sender
