"""What ethtool(8) asks of a driver of the network: its name, and what it counted. linux/ethtool.h."""

import array
import fcntl
import re
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

_SIOCETHTOOL = 0x8946
_GDRVINFO = 0x03
_GSTRINGS = 0x1B
_GSTATS = 0x1D
_STATISTICS_NAMES = 1
"""`ETH_SS_STATS`: which set of names."""
_INFO_BYTES = 196
"""`struct ethtool_drvinfo`: u32 cmd, char driver[32], …, u32 n_stats, …"""
_STATISTICS_AT = 180
_NAME_BYTES = 32
_ROOM = 256
"""For counters that the driver got since it was asked for their number: the kernel writes them all."""
_UNKNOWN = "unknown"


class DriverInfo(NamedTuple):
    """What a driver says of itself."""

    name: str
    statistics: int
    """How many counters it has."""


def driver_info(interface: str) -> DriverInfo:
    """Of an interface of this thread's network; "unknown" and none where there is no answer."""
    try:
        answer = _ask(interface, struct.pack("I", _GDRVINFO).ljust(_INFO_BYTES, b"\0"))
    except OSError:
        return DriverInfo(_UNKNOWN, 0)
    return DriverInfo(_text(answer[4:36]) or _UNKNOWN, *struct.unpack_from("I", answer, _STATISTICS_AT))


def driver(interface: str) -> str:
    """Name of an interface's driver, as `ethtool -i` shows it."""
    return driver_info(interface).name


def statistics_names(interface: str, count: int) -> list[str]:
    """Names of a driver's first counters, in their order. OSError where it has none."""
    head = struct.pack("III", _GSTRINGS, _STATISTICS_NAMES, count)
    answer = _ask(interface, head.ljust(len(head) + (count + _ROOM) * _NAME_BYTES, b"\0"))
    return [
        _text(answer[at : at + _NAME_BYTES]) for at in range(len(head), len(head) + count * _NAME_BYTES, _NAME_BYTES)
    ]


def statistics(interface: str, count: int) -> Sequence[int]:
    """A driver's first counters. OSError where it has none."""
    head = struct.pack("II", _GSTATS, count)
    answer = _ask(interface, head.ljust(len(head) + (count + _ROOM) * 8, b"\0"))
    return struct.unpack_from(f"{count}Q", answer, len(head))


def _ask(interface: str, request: bytes) -> bytes:
    buffer = array.array("B", request)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # struct ifreq: char name[16], then a pointer
        fcntl.ioctl(
            sock, _SIOCETHTOOL, struct.pack("16sP", interface.encode(), buffer.buffer_info()[0]).ljust(40, b"\0")
        )
    return buffer.tobytes()


def _text(padded: bytes) -> str:
    return re.sub(r"\0.*", "", padded.decode("ascii", "replace"), flags=re.DOTALL)
