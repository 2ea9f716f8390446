"""Many datagrams in one system call: sendmmsg(2) and recvmmsg(2) over numpy arrays, which Python's sockets lack.

The kernel's structures are rows of 64-bit words, so that a whole batch is filled in and read with a few numpy calls.
This holds on 64-bit little-endian Linux.
"""

import ctypes
import errno
import os
import socket

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

HEAD_BYTES = 16
"""Room in a slot before the payload: whatever a relay puts there ends here, so that the payload is always aligned."""
HEAD_WORDS = HEAD_BYTES // 8
_ADDRESS_BYTES = 16
"""struct sockaddr_in."""
_STAMP_BYTES = 32
"""One SCM_TIMESTAMPNS: cmsghdr (length, level, type), then struct timespec."""

# Words of struct mmsghdr.
_NAME, _NAME_BYTES, _PARTS, _PART_COUNT, _CONTROL, _CONTROL_BYTES, _FLAGS, _LENGTH = range(8)
_MESSAGE_BYTES = 64

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_RECEIVE_BUFFER_BYTES = 64 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_libc.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


def open_socket(address: str) -> socket.socket:
    """A UDP socket on a free port of an IPv4 address, with so much room that it does not lose anything."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    sock.bind((address, 0))
    return sock


def stamp_arrivals(sock: socket.socket, on: bool) -> None:
    """Whether the kernel notes when a datagram arrived, which costs it a little for each."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, int(on))


def pack_address(address: tuple[str, int]) -> bytes:
    """struct sockaddr_in."""
    host, port = address
    return (socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton(host)).ljust(
        _ADDRESS_BYTES, b"\0"
    )


def unpack_address(packed: bytes) -> tuple[str, int]:
    """The reverse."""
    return socket.inet_ntoa(packed[4:8]), int.from_bytes(packed[2:4], "big")


class Slots:
    """A row of buffers for one datagram each, with the kernel's structures that point to them.

    Args:
        count: how many.
        head_bytes: what stands before the payload in every datagram; up to HEAD_BYTES.
        payload_bytes: the longest payload.
        stamped: whether there is room for the time of arrival.
    """

    def __init__(self, count: int, head_bytes: int, payload_bytes: int, stamped: bool = False) -> None:
        stride = -(-(HEAD_BYTES + payload_bytes) // 64) * 64
        rows = np.arange(count, dtype=np.uint64)
        self.count = count
        self.words = np.zeros((count, stride // 8), np.uint64)
        self.addresses = np.zeros((count, _ADDRESS_BYTES // 8), np.uint64)
        self._stamps = np.zeros((count if stamped else 0, _STAMP_BYTES // 8), np.uint64)
        self._parts = np.zeros((count, 2), np.uint64)
        self._parts[:, 0] = _at(self.words) + rows * np.uint64(stride) + np.uint64(HEAD_BYTES - head_bytes)
        self._parts[:, 1] = stride - (HEAD_BYTES - head_bytes)
        self._messages = np.zeros((count, _MESSAGE_BYTES // 8), np.uint64)
        self._messages[:, _NAME] = _at(self.addresses) + rows * np.uint64(_ADDRESS_BYTES)
        self._messages[:, _NAME_BYTES] = _ADDRESS_BYTES
        self._messages[:, _PARTS] = _at(self._parts) + rows * np.uint64(16)
        self._messages[:, _PART_COUNT] = 1
        if stamped:
            self._messages[:, _CONTROL] = _at(self._stamps) + rows * np.uint64(_STAMP_BYTES)
            self._messages[:, _CONTROL_BYTES] = _STAMP_BYTES
        self._start = int(_at(self._messages))

    def set_lengths(self, length_bytes: NDArray[np.uint64]) -> None:
        """How long the datagram in each slot is, head and payload; for sending."""
        self._parts[:, 1] = length_bytes

    def send(self, fd: int, first: int, count: int) -> None:
        """Sends what is in the slots, each to the address in `addresses`.

        Raises:
            OSError: the kernel does not take it.
        """
        while count:
            sent = _libc.sendmmsg(fd, self._start + first * _MESSAGE_BYTES, count, 0)
            if sent < 0:
                raise _error()
            first += sent
            count -= sent

    def receive(self, fd: int, first: int, count: int) -> int:
        """Takes what is there into the slots. Returns how many datagrams.

        Raises:
            OSError: the socket is broken.
        """
        got: int = _libc.recvmmsg(fd, self._start + first * _MESSAGE_BYTES, count, socket.MSG_DONTWAIT, None)
        if got >= 0:
            return got
        if ctypes.get_errno() == errno.EAGAIN:
            return 0
        raise _error()

    def lengths(self, count: int) -> Words:
        """Of what was received in the first slots, head and payload, in bytes."""
        return self._messages[:count, _LENGTH]

    def arrival_ns(self, count: int) -> Words:
        """When the kernel got what is in the first slots, by CLOCK_REALTIME."""
        return self._stamps[:count, 2] * np.uint64(1_000_000_000) + self._stamps[:count, 3]

    def reuse(self, count: int) -> None:
        """Makes the first slots ready to receive again: the kernel writes what it used into these fields."""
        self._messages[:count, _NAME_BYTES] = _ADDRESS_BYTES
        if len(self._stamps):
            self._messages[:count, _CONTROL_BYTES] = _STAMP_BYTES


def _at(array: Words) -> np.uint64:
    return np.uint64(array.ctypes.data)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
