"""Peers of a relay on blocking UDP sockets. They have a codec of their own: the relay's is what is being tested."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tests.integration.waiting import PATIENCE_SECONDS

PING = b"\x01"
DATA = b"\x02"
CHECKING, VALID, INVALID, SESSION_TIMEOUT, ERROR = (bytes((1, state)) for state in range(1, 6))
OPENS_CONNECTION = b"\x01\x00\x00\x00\x00 hello"
"""A payload as KCP's first one: channel, zero cookie, the rest."""
GOES_ON = b"\x02\x99\x88\x77\x66 again"
"""A payload within a KCP connection."""

Address = tuple[str, int]

_TALK_SECONDS = 0.05
_PAUSE_SECONDS = 0.005
_SILENCE_SECONDS = 0.5
"""After so long a PING will have no answer: far longer than any answer takes, or it would be taken for a later one."""


class Peer:
    """A socket connected to one of the relay's ports: what comes from anywhere else, it never sees."""

    def __init__(self, address: Address, user: int, session: int, bind: Address | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        if bind is not None:
            self.socket.bind(bind)
        self.socket.connect(address)
        self.header = struct.pack("<II", user, session)

    @property
    def port(self) -> int:
        """The port it sends from."""
        port: int = self.socket.getsockname()[1]
        return port

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, datagram: bytes) -> bytes:
        """Sends these bytes, and returns them for the books."""
        self.socket.send(datagram)
        return datagram

    def send_ping(self) -> bytes:
        return self.send(self.header + PING)

    def receive(self, seconds: float = PATIENCE_SECONDS) -> bytes:
        """The next datagram."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(2048)
        except TimeoutError:
            raise AssertionError(f"no datagram within {seconds} s") from None

    def received_by_now(self) -> list[bytes]:
        """All that is there, without waiting."""
        self.socket.setblocking(False)
        found: list[bytes] = []
        while True:
            try:
                found.append(self.socket.recv(2048))
            except BlockingIOError:
                return found

    def ping(self) -> bytes:
        """PINGs and returns the answer, which has to be the next datagram to come."""
        self.send_ping()
        return self.receive()

    def ping_until(self, state: bytes, seconds: float = PATIENCE_SECONDS) -> list[bytes]:
        """PINGs until that is the answer; a PING left without one is followed by another. Returns all answers."""
        deadline = time.monotonic() + seconds
        answers: list[bytes] = []
        while not answers or answers[-1] != state:
            if answers:
                # Faster than that, peer and relay keep from each other's work whoever is to change the answer.
                time.sleep(_PAUSE_SECONDS)
            assert time.monotonic() < deadline, f"no {state!r} within {seconds} s, only {set(answers)}"
            self.send_ping()
            try:
                answers.append(self.receive(_SILENCE_SECONDS))
            except AssertionError:
                continue
        return answers


class Player(Peer):
    """A player at the client port."""

    def data(self, payload: bytes) -> bytes:
        return self.header + DATA + payload

    def say(self, payload: bytes) -> bytes:
        return self.send(self.data(payload))

    def hear(self) -> bytes:
        """The payload of the next datagram."""
        datagram = self.receive()
        assert datagram[:1] == DATA, f"not DATA: {datagram!r}"
        return datagram[1:]


class Host(Peer):
    """A game server at the server port."""

    def data(self, connection_id: int, payload: bytes) -> bytes:
        return self.header + DATA + struct.pack("<i", connection_id) + payload

    def say(self, connection_id: int, payload: bytes) -> bytes:
        return self.send(self.data(connection_id, payload))

    def hear(self) -> tuple[int, bytes]:
        """Connection id and payload of the next datagram."""
        datagram = self.receive()
        assert datagram[:1] == DATA, f"not DATA: {datagram!r}"
        return struct.unpack_from("<i", datagram, 1)[0], datagram[5:]


@contextmanager
def talking(*peers: Peer) -> Iterator[None]:
    """They PING until the end of the block, however long the rest of it takes. Answers are left in their sockets."""
    over = threading.Event()

    def talk() -> None:
        while not over.wait(_TALK_SECONDS):
            for peer in peers:
                peer.send_ping()

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
