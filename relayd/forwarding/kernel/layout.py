"""The maps that the kernel program and user space share, described once for Python. The program's own description is
`relay.bpf.c`; a test compares the two, byte for byte.

Integers are little-endian, as on the wire, and times nanoseconds of CLOCK_MONOTONIC. Addresses and UDP ports of
peers are in network order, IPv4 addresses as ``::ffff:a.b.c.d``.
"""

import ctypes
import socket
from enum import IntEnum, IntFlag

from relayd.core.endpoint import Address

LAYOUT_VERSION = 6
"""Changes with every change of this layout: pinned maps of another version are replaced, not adopted."""

PROGRAM = "relay"
U32 = ctypes.c_uint32
U64 = ctypes.c_uint64


class ControlFlag(IntFlag):
    """Switches of the program."""

    PIN_IP = 1
    PAIRS_INCOMPLETE = 2


class InterfaceMode(IntEnum):
    """How the program is attached to an interface."""

    NATIVE = 1
    GENERIC = 2


class Rate(ctypes.LittleEndianStructure):
    """What a user may send: relayd/core/meter.py."""

    _fields_ = (("datagram_ns", U64), ("bytes_per_second", U64))


class Dues(ctypes.LittleEndianStructure):
    """When what it sent would have been due."""

    _fields_ = (("datagrams_ns", U64), ("bytes_ns", U64))


class Control(ctypes.LittleEndianStructure):
    """The program's settings: entry 0 of `control`."""

    _fields_ = (
        ("layout_version", U32),
        ("flags", U32),
        ("ports", ctypes.c_uint8 * 2 * 2),
        ("tos", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
        ("rebind_after_ns", U64),
        ("source_interval_ns", U64),
        ("total_interval_ns", U64),
        ("bind_digest", U64),
        ("guess_interval_ns", U64),
        ("source_guess_interval_ns", U64),
        ("rates", Rate * 2),
    )


class PairKey(ctypes.LittleEndianStructure):
    """Key of `pairs`: both tokens of a user."""

    _fields_ = (("user", U32), ("session", U32))


class Pair(ctypes.LittleEndianStructure):
    """Value of `pairs`: the user's slot on each port, 0 where it has none."""

    _fields_ = (("slots", U32 * 2),)


class Binding(ctypes.LittleEndianStructure):
    """Entry of `bindings`, by slot: what user space knows of a binding."""

    _fields_ = (
        ("peer", ctypes.c_uint8 * 16),
        ("peer_port", ctypes.c_uint8 * 2),
        ("family", ctypes.c_uint16),
        ("endpoint", U32),
        ("user", U32),
        ("session", U32),
        ("connection_id", U32),
        ("session_index", U32),
        ("padding", ctypes.c_uint8 * 24),
    )


class NextHop(ctypes.LittleEndianStructure):
    """How a peer is reached on its link."""

    _fields_ = (("to", U64), ("from_", U64), ("ifindex", U32), ("epoch", U32))


class State(ctypes.LittleEndianStructure):
    """Entry of `states`, by slot: what the program knows of a binding."""

    _fields_ = (
        ("last_seen_ns", U64),
        ("to_host_datagrams", U64),
        ("to_host_bytes", U64),
        ("to_player_datagrams", U64),
        ("to_player_bytes", U64),
        ("dues", Dues),
        ("local", ctypes.c_uint8 * 16),
        ("came_by", NextHop),
        ("route", NextHop),
        ("answered_datagrams", U64),
        ("conflict_datagrams", U64),
        ("limited_datagrams", U64),
        ("padding", ctypes.c_uint8 * 48),
    )


class PingsEntry(ctypes.LittleEndianStructure):
    """Entry of `pings`, by slot: `Pings` of relayd/core/pings.py."""

    _fields_ = (("last_ns", U64), ("heard", U64), ("missed", U64), ("jitter_sixteenths_ns", U64))


class Session(ctypes.LittleEndianStructure):
    """Entry of `sessions`, by index: the slot of the session's host."""

    _fields_ = (("token", U32), ("host_slot", U32))


class ConnectionKey(ctypes.LittleEndianStructure):
    """Key of `connections`: how a host names one of its players. The value is that player's slot."""

    _fields_ = (("session", U32), ("connection_id", U32))


class Total(ctypes.LittleEndianStructure):
    """Entry of `totals`, for each processor, and of `totals_taken_over`, by port and verdict."""

    _fields_ = (("datagrams", U64), ("bytes", U64))


class TakenOver(ctypes.LittleEndianStructure):
    """Entry of `taken_over`, by slot: what of it was added to the user's own counts so far."""

    _fields_ = (
        ("to_host_datagrams", U64),
        ("to_host_bytes", U64),
        ("to_player_datagrams", U64),
        ("to_player_bytes", U64),
    )


STRUCTURES: dict[str, type[ctypes.LittleEndianStructure]] = {
    "rate": Rate,
    "dues": Dues,
    "control": Control,
    "pair_key": PairKey,
    "pair": Pair,
    "binding": Binding,
    "next_hop": NextHop,
    "state": State,
    "pings": PingsEntry,
    "session": Session,
    "connection_key": ConnectionKey,
    "total": Total,
    "taken_over": TakenOver,
}
"""By their names in C."""

VALUES: dict[str, tuple[int, int]] = {
    "control": (4, ctypes.sizeof(Control)),
    "pairs": (ctypes.sizeof(PairKey), ctypes.sizeof(Pair)),
    "bindings": (4, ctypes.sizeof(Binding)),
    "states": (4, ctypes.sizeof(State)),
    "pings": (4, ctypes.sizeof(PingsEntry)),
    "sessions": (4, ctypes.sizeof(Session)),
    "connections": (ctypes.sizeof(ConnectionKey), 4),
    "ended": (4, 8),
    "addresses": (16, 4),
    "interfaces": (4, 4),
    "totals": (4, ctypes.sizeof(Total)),
    "unknown_sources": (16, 8),
    "unknown_total": (4, 8),
    "guesses": (4, 8),
    "guess_sources": (16, 8),
    "taken_over": (4, ctypes.sizeof(TakenOver)),
    "totals_taken_over": (4, ctypes.sizeof(Total)),
}
"""Every map, with the bytes of a key and of a value."""

_MAPPED = bytes(10) + b"\xff\xff"


def pack_ip(ip_address: str) -> bytes:
    """An address in the 16 bytes of the maps.

    Raises:
        OSError: the text is no address.
    """
    if ":" in ip_address:
        return socket.inet_pton(socket.AF_INET6, ip_address)
    return _MAPPED + socket.inet_pton(socket.AF_INET, ip_address)


def family_of(ip_address: str) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in ip_address else socket.AF_INET


def peer_address(binding: Binding) -> Address:
    """The peer of a binding, in the form that its socket would name it."""
    packed = bytes(binding.peer)
    port = int.from_bytes(bytes(binding.peer_port), "big")
    if binding.family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[12:]), port
    return socket.inet_ntop(socket.AF_INET6, packed), port, 0, 0
