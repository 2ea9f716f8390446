"""Whose XDP programs are on the interfaces of this host: a forgotten one goes on forwarding and dropping, unnoticed."""

import enum
import os
import socket
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

from relayd.core.declaration.kernel_maps import CONTROL
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.attach import attached_mode, attached_program
from relayd.forwarding.kernel.layout import PROGRAM
from relayd.forwarding.kernel.libbpf import BpfError, LibraryMissingError, checked, library
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.taking_off import link_holding, way_off
from relayd.settings import RelaySettings, Settings

_MAP_NAME = struct.Struct("<24x16s")
"""`struct bpf_map_info`, its name."""
_MOST_MAPS = 64
_ITS_MAPS = frozenset({"control", "pairs", "bindings", "sessions", "connections"})
"""Maps that relayd's program has in every version. Its tag is another one in each."""


class Whose(enum.Enum):
    """Whose program it is."""

    THIS_RELAY = enum.auto()
    """relayd's, for the ports of this relay."""
    ANOTHER_RELAY = enum.auto()
    """relayd's, for other ports, or of a version whose ports cannot be read."""
    FOREIGN = enum.auto()
    UNKNOWN = enum.auto()
    """Nobody but root may look."""


class Occupant(NamedTuple):
    """An XDP program on an interface."""

    interface: str
    ifindex: int
    program: int
    name: str
    whose: Whose
    link: int
    """What holds it there: the id of a link; 0 where there is none, or nobody may look."""

    def __str__(self) -> str:
        """What is so, and the way out."""
        where = f"XDP program {self.program} is on {self.interface}"
        if self.whose is Whose.UNKNOWN:
            return f"{where}: `relayd check` as root says whose it is"
        if self.whose is Whose.THIS_RELAY:
            what = "relayd's and for the ports of this relay, which does not use it: it forwards and drops unseen"
        elif self.whose is Whose.ANOTHER_RELAY:
            what = "relayd's, for other ports or of another version: a leftover, if no other relay on this host uses it"
        else:
            what = f"{self.name or 'without a name'} and not relayd's: what it drops, no relay sees"
        return f"{where}, {what}; `{self._way_off()}` takes it off"

    def _way_off(self) -> str:
        if self.whose is Whose.THIS_RELAY and self.link:
            return "relayd fast-path remove"
        return way_off(self.interface, self.link, attached_mode(self.ifindex))


def unexpected(settings: Settings) -> list[str]:
    """A sentence for each program that is on an interface where the fast path has none to be."""
    wanted = settings.fast_path
    # What is on those that it is put on is looked at when it is: relayd/forwarding/kernel/attach.py.
    besides = wanted.interfaces if wanted.mode != "off" else ()
    try:
        return [str(one) for one in occupants(settings.relay, besides)]
    except OSError as error:
        return [f"XDP programs on the interfaces of this host cannot be looked at: {error.strerror}"]


def occupants(relay: RelaySettings, besides: Collection[str] = ()) -> Iterator[Occupant]:
    """The XDP programs on all interfaces but these; none where libbpf is missing, for nobody can look then.

    Raises:
        OSError: the kernel does not say.
    """
    try:
        library()
    except LibraryMissingError:
        return
    for ifindex, interface in socket.if_nameindex():
        program = attached_program(ifindex) if interface not in besides else 0
        if program:
            yield _occupant(interface, ifindex, program, relay)


def _occupant(interface: str, ifindex: int, program: int, relay: RelaySettings) -> Occupant:
    try:
        name, maps = _program(program)
        if name != PROGRAM or not maps.keys() >= _ITS_MAPS:
            whose = Whose.FOREIGN
        else:
            whose = Whose.THIS_RELAY if _ports(maps["control"]) == _ports_of(relay) else Whose.ANOTHER_RELAY
    except BpfError:
        name, whose = "", Whose.UNKNOWN
    return Occupant(interface, ifindex, program, name, whose, link_holding(program, ifindex))


def _program(number: int) -> tuple[str, dict[str, int]]:
    """Name of a program, and the ids of its maps by their names."""
    fd = checked(library().bpf_prog_get_fd_by_id(number), "look at a program")
    try:
        ids, name = libbpf.program_info(fd, _MOST_MAPS)
    finally:
        os.close(fd)
    return name, {_map_name(one): one for one in ids}


def _map_name(number: int) -> str:
    fd = checked(library().bpf_map_get_fd_by_id(number), "look at a map")
    try:
        (name,) = _MAP_NAME.unpack(libbpf.info(fd, _MAP_NAME.size))
    finally:
        os.close(fd)
    return str(name.rstrip(b"\0").decode("ascii", "replace"))


def _ports(control: int) -> bytes:
    """For which ports it is, where this version has them; of another version that is something else."""
    one = BpfMap("control", checked(library().bpf_map_get_fd_by_id(control), "look at a map"))
    try:
        at = CONTROL.offsets["ports"]
        return (one.lookup(bytes(4)) or b"")[at : at + 4]
    finally:
        os.close(one.fd)


def _ports_of(relay: RelaySettings) -> bytes:
    return struct.pack("!HH", relay.server_port, relay.client_port)
