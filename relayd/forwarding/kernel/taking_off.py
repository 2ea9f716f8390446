"""How an XDP program that is on an interface is taken off: which command does it, and which link holds it."""

import errno
import os
from collections.abc import Iterator
from ctypes import byref, c_uint32
from typing import NamedTuple

from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.layout import InterfaceMode
from relayd.forwarding.kernel.libbpf import BpfError, checked, library

_XDP_LINK = 6
"""`enum bpf_link_type`."""
_LINK_INFO_BYTES = 24


class XdpLink(NamedTuple):
    """What holds a program on an interface, with or without a process: `struct bpf_link_info`."""

    id: int
    program: int
    ifindex: int


def xdp_links() -> Iterator[XdpLink]:
    """All there are on this host, in this network or another one.

    Raises:
        BpfError: no right to look (CAP_SYS_ADMIN).
    """
    number = c_uint32(0)
    while True:
        result = library().bpf_link_get_next_id(number.value, byref(number))
        if result == -errno.ENOENT:
            return
        checked(result, "look at the links of programs")
        fd = library().bpf_link_get_fd_by_id(number.value)
        if fd == -errno.ENOENT:
            continue  # gone meanwhile
        checked(fd, "look at a link")
        try:
            words = memoryview(libbpf.info(fd, _LINK_INFO_BYTES)).cast("I")
        finally:
            os.close(fd)
        kind, link, program, _, ifindex, _ = words
        if kind == _XDP_LINK:
            yield XdpLink(link, program, ifindex)


def detach_link(link: int) -> None:
    """Takes off the program that a link holds, whoever else has it, pinned or open.

    Raises:
        BpfError: no right to.
    """
    fd = checked(library().bpf_link_get_fd_by_id(link), "open a link")
    try:
        result = library().bpf_link_detach(fd)
        if result != -errno.ENOLINK:
            checked(result, "detach")
    finally:
        os.close(fd)


def link_holding(program: int, ifindex: int) -> int:
    """The id of the link that holds a program on an interface; 0 if it is there without one, or nobody may look."""
    try:
        return next((one.id for one in xdp_links() if (one.program, one.ifindex) == (program, ifindex)), 0)
    except BpfError:
        return 0


def way_off(interface: str, link: int, mode: InterfaceMode) -> str:
    """The command for it. ip(8) takes off nothing that a link holds, and nothing of another mode than it is told."""
    if link:
        return f"bpftool link detach id {link}"
    return f"ip link set dev {interface} {'xdpdrv' if mode is InterfaceMode.NATIVE else 'xdpgeneric'} off"
