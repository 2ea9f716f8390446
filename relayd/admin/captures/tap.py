"""A packet socket (packet(7)) that sees what comes in and goes out at the network layer, filtered by the kernel."""

import ctypes
import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from relayd.errors import UnavailableError, UsageError

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_BUFFER_BYTES = 32 << 20
_LARGEST_PACKET = 65_535
_TIMESPEC = struct.Struct("@ll")


class Captured(NamedTuple):
    """A packet as the kernel delivers it."""

    data: bytes
    """From its IP header on."""
    time_ns: int
    inbound: bool


class Tap:
    """Sees packets of one interface or of all.

    Args:
        interface: its name; None for all.
        program: a classic BPF program.

    Raises:
        UnavailableError: no right to.
        UsageError: there is no such interface.
    """

    def __init__(self, interface: str | None, program: bytes) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError:
            raise UnavailableError("capturing needs CAP_NET_RAW: run it as root") from None
        try:
            self._prepare(program)
            if interface is None:
                self._listen_everywhere()
            else:
                self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            if error.errno != errno.ENODEV:
                raise
            names = ", ".join(name for _, name in socket.if_nameindex())
            raise UsageError(f"--interface: no interface {interface}; there are {names}") from None

    def _prepare(self, program: bytes) -> None:
        sock = self._socket
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        steps = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: how many instructions, and where they are
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
        )

    def _listen_everywhere(self) -> None:
        # struct sockaddr_ll with interface 0, which socket.bind cannot say
        address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
        if ctypes.CDLL(None, use_errno=True).bind(self._socket.fileno(), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), "a packet socket cannot be bound")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def take(self) -> Iterator[Captured]:
        """All that is there."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_LARGEST_PACKET, socket.CMSG_SPACE(_TIMESPEC.size))
            except BlockingIOError:
                return
            yield Captured(data, _time_ns(ancillary), address[2] != _PACKET_OUTGOING)

    def lost(self) -> int:
        """How many packets found no room since the last call, because they were not taken fast enough."""
        _, dropped = struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)


def _time_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()
