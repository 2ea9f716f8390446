"""The host's own IP addresses, from rtnetlink(7): only what is sent to one of them is the relay's.

Without this the program would take a datagram that is only on its way through this host for one of its own.
"""

import socket
import struct
from collections.abc import Iterator, Sequence

from relayd.edge.xdp.layout import pack_ip
from relayd.edge.xdp.maps import BpfMap

_RTM_GETADDR = 22
_RTM_NEWADDR = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")


def local_addresses() -> list[str]:
    """All addresses of all interfaces.

    Raises:
        OSError: the kernel does not say.
    """
    found: list[str] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5.0)
        sock.send(_HEADER.pack(_HEADER.size + _IFADDRMSG.size, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + bytes(8))
        while True:
            for kind, body in _messages(sock.recv(1 << 16)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "the kernel does not list its addresses")
                if kind == _RTM_NEWADDR:
                    found += _address(body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _address(body: bytes) -> list[str]:
    family = _IFADDRMSG.unpack_from(body)[0]
    if family not in (socket.AF_INET, socket.AF_INET6):
        return []
    attributes: dict[int, bytes] = {}
    at = _IFADDRMSG.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        attributes[kind] = body[at + _ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    # On point-to-point links IFA_ADDRESS is the other end.
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    return [socket.inet_ntop(family, packed)] if packed else []


class AddressBook:
    """Keeps the map `addresses`: the host's addresses that the relay is bound at, with the endpoint of each.

    Args:
        addresses: the map.
        bind: what the relay is bound to, in the order of its endpoints.
    """

    def __init__(self, addresses: BpfMap, bind: Sequence[str]) -> None:
        self._map = addresses
        self._bind = list(bind)
        self._written = {bytes(key): int.from_bytes(value, "little") for key, value in addresses.items()}

    def refresh(self) -> None:
        """Follows changes of the host's addresses. To be called about every second."""
        wanted: dict[bytes, int] = {}
        for address in local_addresses():
            everywhere = "::" if ":" in address else "0.0.0.0"  # noqa: S104 - looked for, not bound to
            for bound in (address, everywhere):
                if bound in self._bind:
                    wanted[pack_ip(address)] = self._bind.index(bound) + 1
                    break
        for key in self._written.keys() - wanted.keys():
            self._map.delete(key)
        for key, endpoint in wanted.items():
            if self._written.get(key) != endpoint:
                self._map.update(key, endpoint.to_bytes(4, "little"))
        self._written = wanted
