"""What is in the maps that the kernel program and user space share, as structures of ctypes.

relayd/core/declaration/kernel_maps.py declares it. Addresses and UDP ports of peers are bytes here.
"""

import ctypes
import socket
from typing import Any

from relayd.core.declaration.common import DUES, RATE
from relayd.core.declaration.kernel_maps import (
    BINDING,
    CONNECTION_KEY,
    CONTROL,
    LAYOUT,
    NEXT_HOP,
    PAIR,
    PAIR_KEY,
    PLACE,
    SESSION,
    STATE,
    ControlFlag,
    InterfaceMode,
    PassedUp,
)
from relayd.core.declaration.terms import Scalar, Struct
from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.session import Binding as BindingOfTable
from relayd.core.wire import Port
from relayd.forwarding.asked import is_link_local, local_of

__all__ = ["ControlFlag", "InterfaceMode", "PassedUp"]

PROGRAM = "relay"
DIGEST = LAYOUT.digest
"""Stands in `control`: maps with another one are replaced, not adopted."""

_SCALARS: dict[str, Any] = {
    "B": ctypes.c_uint8,
    "H": ctypes.c_uint16,
    "I": ctypes.c_uint32,
    "Q": ctypes.c_uint64,
}


def _fields(declared: Struct, **members: type[ctypes.Structure]) -> list[tuple[str, Any]]:
    """Of a structure in ctypes, with what follows its last member.

    Args:
        declared: the structure.
        members: those that it has members of, by their names.
    """
    found = []
    for field in declared.fields:
        kind = members[field.type.name] if isinstance(field.type, Struct) else _scalar(field.type)
        found.append((field.name, kind * field.count.value if field.count else kind))
    if declared.size_bytes > declared.used_bytes:
        found.append(("padding", ctypes.c_uint8 * (declared.size_bytes - declared.used_bytes)))
    return found


def _scalar(declared: Scalar) -> Any:
    return _SCALARS.get(declared.format) or ctypes.c_uint8 * declared.size_bytes


class Rate(ctypes.LittleEndianStructure):
    """What a user may send: relayd/core/meter.py."""

    _fields_ = _fields(RATE)


class Dues(ctypes.LittleEndianStructure):
    """When what it sent would have been due."""

    _fields_ = _fields(DUES)


class Control(ctypes.LittleEndianStructure):
    """The program's settings: entry 0 of `control`."""

    _fields_ = _fields(CONTROL, rate=Rate)


class PairKey(ctypes.LittleEndianStructure):
    """Key of `pairs`: both tokens of a user."""

    _fields_ = _fields(PAIR_KEY)


class Pair(ctypes.LittleEndianStructure):
    """Value of `pairs`: the user's slot on each port, 0 where it has none, and what was passed up from elsewhere."""

    _fields_ = _fields(PAIR)


class Binding(ctypes.LittleEndianStructure):
    """Entry of `bindings`, by slot: what user space knows of a binding."""

    _fields_ = _fields(BINDING)


class NextHop(ctypes.LittleEndianStructure):
    """How a peer is reached on its link."""

    _fields_ = _fields(NEXT_HOP)


class State(ctypes.LittleEndianStructure):
    """Entry of `states`, by slot: what the program knows of a binding."""

    _fields_ = _fields(STATE, dues=Dues, next_hop=NextHop)


class Session(ctypes.LittleEndianStructure):
    """Entry of `sessions`, by index: the slot of the session's host."""

    _fields_ = _fields(SESSION)


class ConnectionKey(ctypes.LittleEndianStructure):
    """Key of `connections`: how a host names one of its players. The value is that player's slot."""

    _fields_ = _fields(CONNECTION_KEY)


_MAPPED = bytes(10) + b"\xff\xff"


def pack_ip(ip_address: str) -> bytes:
    """An address in the 16 bytes of the maps.

    Raises:
        OSError: the text is no address.
    """
    if ":" in ip_address:
        return socket.inet_pton(socket.AF_INET6, ip_address)
    return _MAPPED + socket.inet_pton(socket.AF_INET, ip_address)


def local_address(packed: bytes) -> Local | None:
    """An address of this host out of the 16 bytes of the maps; None where those are empty, or lack its interface."""
    if not any(packed) or is_link_local(packed):
        return None
    return local_of(packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed, 0)


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


_PLACE = PLACE.packing()


def place_of(binding: BindingOfTable) -> bytes:
    """Key of `by_sockets`: where a user is bound."""
    ip_address, udp_port = binding.address[:2]
    endpoint = binding.endpoint
    return _PLACE.pack(pack_ip(ip_address), udp_port.to_bytes(2, "big"), endpoint.port, endpoint_number(endpoint))


def endpoint_number(endpoint: Endpoint) -> int:
    """How the kernel program numbers an address of the relay: sockets come in pairs, one for each port."""
    return endpoint.number // len(Port) + 1
