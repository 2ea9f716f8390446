"""The host's own IP addresses, from rtnetlink(7)."""

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

import structlog

from relayd.core.bad_sources import BadSources
from relayd.settings import RelaySettings

_RTM_GETADDR = 22
_RTM_NEWADDR = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_RT_SCOPE_LINK = 253
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")

_log = structlog.get_logger()


def local_addresses() -> list[str]:
    """All addresses of all interfaces; a link-local one of IPv6 with its interface, as fe80::1%eth0.

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


def reached_at(bind: Sequence[str]) -> dict[str, str]:
    """By which of the host's own addresses sockets bound to these are reached → the one of these that has it.

    Raises:
        OSError: the kernel does not say which addresses there are.
    """
    found: dict[str, str] = {}
    for address in local_addresses():
        everywhere = "::" if ":" in address else "0.0.0.0"  # noqa: S104 - looked for, not bound to
        for bound in (address, everywhere):
            if bound in bind:
                found[address.partition("%")[0]] = bound
                break
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _address(body: bytes) -> list[str]:
    family, *_, scope, interface = _IFADDRMSG.unpack_from(body)
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
    if not packed:
        return []
    address = socket.inet_ntop(family, packed)
    if family == socket.AF_INET6 and scope == _RT_SCOPE_LINK:
        with suppress(OSError):  # gone meanwhile
            address += f"%{socket.if_indextoname(interface)}"
    return [address]


class OwnAddresses:
    """Tells the engine which sources are the relay itself.

    Args:
        bad_sources: the engine's.
        relay: ports and addresses of the relay.
    """

    def __init__(self, bad_sources: BadSources, relay: RelaySettings) -> None:
        self._bad_sources = bad_sources
        self._bind = relay.bind
        self._public_ip = relay.public_ip
        self._complained = False
        bad_sources.own_ports = {relay.server_port, relay.client_port, *relay.named_ports}

    def refresh(self) -> None:
        """Follows changes of the host's addresses. To be called about every second."""
        try:
            # Through a NAT that sends a datagram back to where it came from, the relay would hear itself from there.
            self._bad_sources.own_addresses = {*reached_at(self._bind), self._public_ip}
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning("the host's addresses cannot be read; those known before count", why=str(error))
