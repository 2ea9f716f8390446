"""Writes pcapng: draft-ietf-opsawg-pcapng, section 4. Little-endian, one interface, raw IP packets, nanoseconds."""

import struct
from typing import BinaryIO

_SECTION_HEADER, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LINKTYPE_RAW = 101
"""Packets begin with their IPv4 or IPv6 header: tcpdump.org/linktypes.html."""
_SHB_USERAPPL, _IF_NAME, _IF_TSRESOL, _EPB_FLAGS, _ISB_IFRECV, _ISB_IFDROP = 4, 2, 9, 2, 4, 5
_NANOSECONDS = 9
_INBOUND, _OUTBOUND = 1, 2


class Writer:
    """One section of one interface.

    Args:
        file: where it goes.
        program: who writes it.
        interface: what the interface is called.
        most_bytes: what the file may have at most, statistics included.
    """

    def __init__(self, file: BinaryIO, program: str, interface: str, most_bytes: int) -> None:
        self.size_bytes = 0
        self._file = file
        self._most_bytes = most_bytes - len(_statistics(0, 0, 0))
        header = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
        self._write(_block(_SECTION_HEADER, header + _options((_SHB_USERAPPL, program.encode()))))
        options = _options((_IF_NAME, interface.encode()), (_IF_TSRESOL, bytes((_NANOSECONDS,))))
        # A snap length of 0 is "no limit": how much of a packet is kept differs from one to the next.
        self._write(_block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + options))

    def add(self, packet: bytes, original_bytes: int, time_ns: int, inbound: bool) -> bool:
        """Adds a packet.

        Args:
            packet: what is kept of it, from its IP header.
            original_bytes: how long it was.
            time_ns: when, since 1970.
            inbound: whether the relay received it; else it sent it.

        Returns:
            False, and nothing is added, where the file would become too large.
        """
        body = struct.pack("<IIIII", 0, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(packet), original_bytes)
        flags = struct.pack("<I", _INBOUND if inbound else _OUTBOUND)
        block = _block(_PACKET, body + _padded(packet) + _options((_EPB_FLAGS, flags)))
        if self.size_bytes + len(block) > self._most_bytes:
            return False
        self._write(block)
        return True

    def finish(self, time_ns: int, received: int, dropped: int) -> None:
        """Ends the file with how many packets there were, and how many of them the capture lost."""
        self._write(_statistics(time_ns, received, dropped))

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self.size_bytes += len(block)


def _statistics(time_ns: int, received: int, dropped: int) -> bytes:
    body = struct.pack("<III", 0, time_ns >> 32, time_ns & 0xFFFF_FFFF)
    counts = (_ISB_IFRECV, struct.pack("<Q", received)), (_ISB_IFDROP, struct.pack("<Q", dropped))
    return _block(_STATISTICS, body + _options(*counts))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def _options(*options: tuple[int, bytes]) -> bytes:
    listed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    return listed + bytes(4)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)
