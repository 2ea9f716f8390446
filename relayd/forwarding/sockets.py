"""The relay's UDP sockets: bound, with the buffers and marks asked for, checked against what the kernel gave."""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relayd.core.endpoint import Endpoint
from relayd.core.views import SocketMemory
from relayd.core.wire import Port
from relayd.errors import UnavailableError
from relayd.forwarding.asked import tell_asked
from relayd.settings import RelaySettings

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
"""socket(7): as SO_RCVBUF and SO_SNDBUF, but CAP_NET_ADMIN may pass over rmem_max and wmem_max with them."""


_SO_MEMINFO = 55
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
"""ip(7): binding to an address that the host does not have, or not yet."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a relay is there to be reached
"""What a socket is bound to that is to serve every address of the host."""


class BoundSocket(NamedTuple):
    """A socket and what the core calls it."""

    endpoint: Endpoint
    socket: socket.socket


def open_sockets(settings: RelaySettings, kept: Iterable[socket.socket] = ()) -> tuple[list[BoundSocket], list[str]]:
    """Opens a socket per port and address of `bind`.

    Args:
        settings: addresses, ports, and what is asked for each socket.
        kept: sockets kept by the predecessor, for all of which `fits` is true: used instead of new ones.

    Returns:
        The sockets, and a warning for each thing asked for that the kernel did not give in full.

    Raises:
        UnavailableError: an address or port is not available; none of the sockets stays open then.
    """
    bound: list[BoundSocket] = []
    warnings: list[str] = []
    try:
        for ip_address in settings.bind:
            try:
                for port, number in ((Port.SERVER, settings.server_port), (Port.CLIENT, settings.client_port)):
                    found = (one for one in kept if _is_bound(one, ip_address, number))
                    sock = next(found, None) or _open(ip_address, number)
                    bound.append(BoundSocket(Endpoint(port, len(bound)), sock))
                    warnings += _prepare(sock, settings)
            except OSError as error:
                # The default asks for IPv6 too, and hosts without IPv6 are common: only that is forgiven.
                if ip_address != "::" or error.errno not in _NO_SUCH_FAMILY or not bound:
                    raise UnavailableError(_cannot_bind(ip_address, number, error)) from None
                warnings.append("no IPv6 on this host: players can reach the relay over IPv4 only")
    except UnavailableError:
        for one in bound:
            one.socket.close()
        raise
    return bound, list(dict.fromkeys(warnings))


def fits(sock: socket.socket, settings: RelaySettings) -> bool:
    """Whether a socket is one that `open_sockets` would open."""
    numbers = (settings.server_port, settings.client_port)
    return any(_is_bound(sock, ip_address, number) for ip_address in settings.bind for number in numbers)


def _is_bound(sock: socket.socket, ip_address: str, number: int) -> bool:
    """Whether a socket is as `_open` makes it."""
    family = family_of(ip_address)
    try:
        wanted = name_of(ip_address, number)
    except OSError:
        return False
    return (
        (sock.family, sock.type) == (family, socket.SOCK_DGRAM)
        and sock.getsockname()[: len(wanted)] == wanted
        and (family == socket.AF_INET or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) != 0)
    )


def name_of(ip_address: str, number: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What a socket is bound to: (ip, port) or, for a link-local address, (ip, port, 0, index of its interface).

    Raises:
        OSError: there is no such interface.
    """
    ip, _, interface = ip_address.partition("%")
    if not interface:
        return ip, number
    index = {name: index for index, name in socket.if_nameindex()}.get(interface)
    if index is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return ip, number, 0, index


def family_of(ip_address: str) -> socket.AddressFamily:
    """Of a local address, with or without its interface."""
    return socket.AF_INET6 if ":" in ip_address else socket.AF_INET


def memory_of(bound: Iterable[BoundSocket]) -> list[tuple[Port, SocketMemory]]:
    """What the kernel keeps for each of the sockets; nothing of those that are closed, as at the relay's end."""
    return [(one.endpoint.port, _memory(one.socket)) for one in bound if one.socket.fileno() >= 0]


def _memory(sock: socket.socket) -> SocketMemory:
    # include/uapi/linux/sock_diag.h: SK_MEMINFO_RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF, …, and DROPS, the ninth.
    words = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 9 * 4))
    return SocketMemory(words[0], words[1], words[2], words[3], words[8])


def _open(ip_address: str, number: int) -> socket.socket:
    family = family_of(ip_address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            # Each family has a socket of its own, so that an address always has the same form.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if ip_address not in EVERYWHERE:
            # It may come later, or be tentative (RFC 4862): relayd/forwarding/named_addresses.py says where it is away.
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind(name_of(ip_address, number))
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_bind(ip_address: str, number: int, error: OSError) -> str:
    where = f"UDP port {number} on {ip_address}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken: `ss -lunp sport = :{number}` shows by whom; or set another port in [relay]"
    if error.errno == errno.ENODEV:
        return f"{where} is not available: this host has no such interface; `ip link` lists those it has"
    if error.errno == errno.EACCES:
        return f"{where} is not available: ports below 1024 need CAP_NET_BIND_SERVICE"
    return f"{where} is not available: {error.strerror}"


def _prepare(sock: socket.socket, settings: RelaySettings) -> Iterator[str]:
    tell_asked(sock)
    # RFC 2474: the upper six bits of the former TOS and traffic class octets. 0 too: a kept socket may have others.
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, settings.dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, settings.dscp << 2)
    for name, option, force, asked, sysctl in (
        ("receive", socket.SO_RCVBUF, _SO_RCVBUFFORCE, settings.receive_buffer_bytes, "net.core.rmem_max"),
        ("send", socket.SO_SNDBUF, _SO_SNDBUFFORCE, settings.send_buffer_bytes, "net.core.wmem_max"),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, asked)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, option, asked)
        # socket(7): the kernel doubles the value for its own bookkeeping and reports it doubled.
        given = sock.getsockopt(socket.SOL_SOCKET, option) // 2
        if given < asked:
            yield (
                f"{name} buffer is {given} bytes instead of {asked}: bursts may be lost;"
                f" set it with `sysctl -w {sysctl}={asked}`"
            )
