"""UDP sockets without a network: what arrives is put in by the test, what is sent is kept, and sending can fail."""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from relayd.core.endpoint import Address, Endpoint
from relayd.core.wire import Port
from relayd.forwarding.asked import Ancillary
from relayd.forwarding.sockets import BoundSocket


class FakeSocket(socket.socket):
    """Bound at an address that no host has. An event loop reads it like any other: it is one end of a local pair."""

    def __init__(self, ip_address: str = "192.0.2.1", port: int = 0) -> None:
        here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM, 0, fileno=here.detach())
        self.setblocking(False)
        self.sent: list[tuple[bytes, Address]] = []
        self.failure: int | None = None
        """errno of each send from now on."""
        self.room: int | None = None
        """How many more datagrams the send queue takes; None for any number."""
        self.wires: dict[Address, Callable[[bytes], None]] = {}
        """What is sent to these addresses arrives there, and is not kept."""
        self._name = (ip_address, port)
        self._arrived: deque[tuple[bytes, Address, Ancillary]] = deque()
        self.left_from: list[Ancillary] = []
        """What was said with each datagram that was to leave from an address."""
        self.gone: int | None = None
        """errno of each of them from now on, as where this host has lost the address."""

    def arrive(self, data: bytes, source: Address, ancillary: Ancillary | None = None) -> None:
        """A datagram comes in."""
        self._arrived.append((data, source, ancillary or []))
        self._there.send(b"x")

    def taken(self) -> list[tuple[bytes, Address]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    @property
    def waiting(self) -> int:
        """How many datagrams nobody has read yet."""
        return len(self._arrived)

    # What a relay does with a socket ------------------------------------------------------------------------

    def sendto(self, data: Any, *address: Any) -> int:
        if self.failure is not None:
            raise OSError(self.failure, os.strerror(self.failure))
        if self.room is not None:
            if self.room == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            self.room -= 1
        wire = self.wires.get(address[-1])
        if wire is None:
            self.sent.append((bytes(data), address[-1]))
        else:
            wire(bytes(data))
        return len(data)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        (data,) = buffers
        if self.gone is not None:
            raise OSError(self.gone, os.strerror(self.gone))
        sent = self.sendto(data, address)
        self.left_from.append(list(ancdata))
        return sent

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, Any, int, Any]:
        super().recv(1)
        data, source, ancillary = self._arrived.popleft()
        (buffer,) = buffers
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        return size, ancillary, 0, source

    def getsockname(self) -> tuple[str, int]:
        return self._name

    def close(self) -> None:
        super().close()
        self._there.close()


def fake_ports(*numbers: int) -> list[BoundSocket]:
    """A server port and a client port, at an address of each of these last numbers; of one unless told otherwise."""
    return [
        BoundSocket(Endpoint(port, 2 * index + port), FakeSocket(f"192.0.2.{number}", 5000 + port))
        for index, number in enumerate(numbers or (1,))
        for port in Port
    ]


def fake(bound: BoundSocket) -> FakeSocket:
    """The socket, as one of these."""
    assert isinstance(bound.socket, FakeSocket)
    return bound.socket
