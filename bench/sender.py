"""Many datagrams in one system call: sendmmsg(2), which Python's socket module does not have."""

import ctypes
import os
import socket
from collections.abc import Sequence
from itertools import accumulate


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class _MessageHeader(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_IoVec)),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr: a message, and how much of it was sent."""

    _fields_ = (("header", _MessageHeader), ("sent_bytes", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)


class BatchSender:
    """Sends datagrams of the same sizes again and again; what stands in them may change.

    Args:
        sock: connected, blocking.
        sizes_bytes: of each datagram; 1,024 at most.
    """

    def __init__(self, sock: socket.socket, sizes_bytes: Sequence[int]) -> None:
        self._sock = sock
        self.count = count = len(sizes_bytes)
        self.total_bytes = sum(sizes_bytes)
        self._content = (ctypes.c_char * self.total_bytes)()
        starts = accumulate(sizes_bytes, initial=ctypes.addressof(self._content))
        self._parts = (_IoVec * count)(*map(_IoVec, starts, sizes_bytes))
        self._messages = (_Message * count)()
        for message, part in zip(self._messages, self._parts, strict=True):
            message.header.parts = ctypes.pointer(part)
            message.header.part_count = 1

    def fill(self, content: bytes | bytearray) -> None:
        """Puts in what is to be sent: all datagrams, one behind the other."""
        memoryview(self._content).cast("B")[:] = content

    def send(self) -> int:
        """Sends all of them. Returns how many the kernel took."""
        sent: int = _libc.sendmmsg(self._sock.fileno(), self._messages, self.count, 0)
        if sent < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return sent
