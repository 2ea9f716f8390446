"""Which of the host's addresses a datagram was sent to, so that the answer leaves from there: ip(7), ipv6(7).

Only sockets that are bound to all addresses are asked about it: any other's datagrams leave from the one it has.
"""

import errno
import socket
import struct

from relayd.core.endpoint import Local

_IP_PKTINFO = 8
_IN_PKTINFO = struct.Struct("=i4s4s")
"""`struct in_pktinfo`: index of the interface, the local address, the destination in the header."""
_IN6_PKTINFO = struct.Struct("=16sI")
"""`struct in6_pktinfo`: address, index of the interface."""
_IPV4_BYTES = 4
_NOWHERE = bytes(_IPV4_BYTES)

Ancillary = list[tuple[int, int, bytes]]
"""What comes with a datagram, and goes with one: level, kind and data of each item."""

ANCILLARY_BYTES = socket.CMSG_SPACE(max(_IN_PKTINFO.size, _IN6_PKTINFO.size)) + socket.CMSG_SPACE(
    struct.calcsize("@ll")
)
"""Room for what says which address was asked, and for a time, which the kernel puts before it."""
GONE = (errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENODEV)
"""What the kernel says of an address, or of an interface, that this host no longer has."""


def tell_asked(sock: socket.socket) -> None:
    """Has a socket say of each datagram which address was asked, if it is bound to all of them."""
    if sock.getsockname()[0] == "0.0.0.0":  # noqa: S104 - compared, not bound to
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif sock.getsockname()[0] == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def asked(ancillary: Ancillary) -> Local | None:
    """The address that a datagram was sent to; None where the socket does not say."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            local: bytes = _IN_PKTINFO.unpack(data)[1]
            # What came in before the socket was to say it.
            return local if local != _NOWHERE else None
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            ip, interface = _IN6_PKTINFO.unpack(data)
            return local_of(ip, interface)
    return None


def leaving_from(local: Local) -> Ancillary:
    """What has a datagram leave from an address."""
    if len(local) == _IPV4_BYTES:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(0, local, _NOWHERE))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local)]


def local_of(ip: bytes, interface: int) -> Local:
    """An address of this host, of 4 or 16 bytes, as the core keeps it.

    Args:
        ip: the address.
        interface: index of the interface it is on: kept where it is link-local, which says nothing without it. Any
            other may be reached by another interface tomorrow.
    """
    if len(ip) == _IPV4_BYTES:
        return ip
    return _IN6_PKTINFO.pack(ip, interface if is_link_local(ip) else 0)


def is_link_local(ip: bytes) -> bool:
    """Whether it is one of fe80::/10."""
    return len(ip) > _IPV4_BYTES and ip[0] == 0xFE and ip[1] & 0xC0 == 0x80


def ip_and_interface(local: Local) -> tuple[bytes, int]:
    """What `local_of` was given."""
    return (local, 0) if len(local) == _IPV4_BYTES else _IN6_PKTINFO.unpack(local)
