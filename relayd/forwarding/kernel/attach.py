"""Puts the program on network interfaces and takes it off. Never displaces another program that is there."""

import errno
import fcntl
import os
import socket
import struct
from ctypes import byref, sizeof
from typing import NamedTuple

from relayd.errors import UnavailableError
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.ethtool import driver
from relayd.forwarding.kernel.layout import InterfaceMode
from relayd.forwarding.kernel.libbpf import BpfError, LinkCreate, XdpQuery, checked, library
from relayd.forwarding.kernel.taking_off import link_holding, way_off

_BPF_XDP = 37
"""`enum bpf_attach_type`: an XDP program on a network device."""
_XDP_FLAGS = {InterfaceMode.NATIVE: 1 << 2, InterfaceMode.GENERIC: 1 << 1}
_ATTACHED_NATIVE = 1
_LEAST_MTU = 1260
_LINK_INFO_BYTES = 24
_IFINDEX_OFFSET = 16
_PROGRAM_OFFSET = 8
_SIOCGIFMTU = 0x8921


class Link(NamedTuple):
    """The program on one interface."""

    interface: str
    ifindex: int
    mode: InterfaceMode
    fd: int
    why_not_native: str = ""
    """Where it is generic, which is slower: the reason."""


def attach(program_fd: int, interface: str) -> Link:
    """Puts the program on an interface: in the driver where that can do it, else in the kernel's generic way.

    Raises:
        UnavailableError: there is no such interface, another program is there, or the kernel refuses.
    """
    ifindex = examine(interface)
    reason = ""
    for mode in InterfaceMode:
        options = LinkCreate(sz=sizeof(LinkCreate), flags=_XDP_FLAGS[mode])
        try:
            fd = checked(library().bpf_link_create(program_fd, ifindex, _BPF_XDP, byref(options)), "attach")
        except BpfError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise UnavailableError(
                    f"fast_path.interfaces: {interface}: no right to attach to it: give relayd CAP_NET_ADMIN"
                ) from None
            if mode is InterfaceMode.GENERIC:
                raise UnavailableError(
                    f"fast_path.interfaces: {interface}: the kernel does not take it: {os.strerror(error.errno or 0)}"
                ) from None
            reason = f"driver {driver(interface)}: {os.strerror(error.errno or 0)}"
        else:
            return Link(interface, ifindex, mode, fd, reason)
    raise AssertionError("unreachable")


def examine(interface: str) -> int:
    """The index of an interface that the program can be put on.

    Raises:
        UnavailableError: it is not there, has too small an MTU, or another program is on it.
    """
    try:
        ifindex = socket.if_nametoindex(interface)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise UnavailableError(f"fast_path.interfaces: no interface {interface}; there are {names}") from None
    mtu = mtu_bytes(interface)
    if mtu < _LEAST_MTU:
        raise UnavailableError(
            f"fast_path.interfaces: {interface}: its MTU is {mtu}, and the fast path needs {_LEAST_MTU}"
        )
    other = attached_program(ifindex)
    if other:
        raise UnavailableError(
            f"fast_path.interfaces: {interface}: XDP program {other} is on it already and is not displaced;"
            f" `bpftool prog show id {other}` names it,"
            f" `{way_off(interface, link_holding(other, ifindex), attached_mode(ifindex))}` takes it off"
        )
    return ifindex


def mtu_bytes(interface: str) -> int:
    """The MTU of an interface of this thread's network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si", interface.encode(), 0).ljust(40, b"\0"))
    return int(struct.unpack_from("16xi", answer)[0])


def _query(ifindex: int) -> XdpQuery:
    query = XdpQuery(sz=sizeof(XdpQuery))
    checked(library().bpf_xdp_query(ifindex, 0, byref(query)), "ask for XDP programs")
    return query


def attached_program(ifindex: int) -> int:
    """The id of the XDP program on an interface, or 0."""
    query = _query(ifindex)
    return int(query.prog_id or query.drv_prog_id or query.skb_prog_id or query.hw_prog_id)


def attached_mode(ifindex: int) -> InterfaceMode:
    """How the program on an interface is attached."""
    query = _query(ifindex)
    return InterfaceMode.NATIVE if query.attach_mode == _ATTACHED_NATIVE else InterfaceMode.GENERIC


def link_ifindex(fd: int) -> int:
    """Which interface a link is on; 0 when it was taken off or the interface is gone."""
    return int.from_bytes(libbpf.info(fd, _LINK_INFO_BYTES)[_IFINDEX_OFFSET : _IFINDEX_OFFSET + 4], "little")


def link_program(fd: int) -> int:
    """The id of the program of a link."""
    return int.from_bytes(libbpf.info(fd, _LINK_INFO_BYTES)[_PROGRAM_OFFSET : _PROGRAM_OFFSET + 4], "little")


def exchange(link_fd: int, program_fd: int) -> None:
    """Replaces a link's program by another one, atomically: no datagram passes in between."""
    checked(library().bpf_link_update(link_fd, program_fd, None), "exchange the program")


def detach(link_fd: int) -> None:
    """Takes a program off its interface, even if another process holds the link."""
    result = library().bpf_link_detach(link_fd)
    if result != -errno.ENOLINK:
        checked(result, "detach")
