"""Whose XDP programs are on the interfaces of this host: a forgotten one goes on forwarding and dropping, unnoticed."""

import enum
import os
import shlex
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from relayd.forwarding.kernel import layout, libbpf
from relayd.forwarding.kernel.attach import attached_mode, attached_program
from relayd.forwarding.kernel.fast_path import control
from relayd.forwarding.kernel.fitness import digest_of, is_as_declared, serves_otherwise
from relayd.forwarding.kernel.holders import process_holding
from relayd.forwarding.kernel.libbpf import BpfError, LibraryMissingError, checked, library
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.taking_off import link_holding, way_off
from relayd.settings import Settings

_MAP_NAME = struct.Struct("<24x16s")
"""`struct bpf_map_info`, its name."""
_MOST_MAPS = 64
_ITS_MAPS = frozenset({"control", "pairs", "bindings", "sessions", "connections"})
"""Maps that relayd's program has in every version. Its tag is another one in each."""


class Whose(enum.Enum):
    """Whose program it is."""

    THIS_RELAY = enum.auto()
    """relayd's, for the ports and addresses of this relay."""
    ANOTHER_RELAY = enum.auto()
    """relayd's, for other ports or addresses, or of a version whose settings cannot be read."""
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
    process: int
    """The id of one that has the link open, as a relay that runs does; 0 where none is seen."""

    @property
    def is_at_work(self) -> bool:
        """Whether it is a relay's that runs."""
        return self.whose in (Whose.THIS_RELAY, Whose.ANOTHER_RELAY) and self.process != 0

    def sentence(self, config: Path | None) -> str:
        """What is so, and the way out.

        Args:
            config: the file of this relay's configuration; None for the default one.
        """
        where = f"XDP program {self.program} is on {self.interface}"
        if self.whose is Whose.UNKNOWN:
            return f"{where}: `relayd check{_option(config)}` as root says whose it is"
        way_off = f"`{self._way_off(config)}` takes it off"
        if self.whose is Whose.FOREIGN:
            return (
                f"{where}, {self.name or 'without a name'} and not relayd's: what it drops, no relay sees;"
                f" if it is not wanted, {way_off}"
            )
        if self.is_at_work:
            return f"{where}, relayd's, and process {self.process} uses it: stop that first"
        if self.whose is Whose.THIS_RELAY:
            what = "for the ports and addresses of this relay, and no process uses it: it forwards and drops unseen"
            return f"{where}, relayd's and {what}; {way_off}"
        what = "for other ports or addresses or of another version, and no process is seen to use it"
        return f"{where}, relayd's, {what}: if no relay is to go on with it, {way_off}"

    def _way_off(self, config: Path | None) -> str:
        if self.whose is Whose.THIS_RELAY and self.link:
            return f"relayd fast-path remove{_option(config)}"
        return way_off(self.interface, self.link, attached_mode(self.ifindex))


class Unexpected(NamedTuple):
    """What there is to say of a program on an interface where the fast path has none to be."""

    sentence: str
    is_known: bool
    """Whether this process may see whose it is: to a relay without root, that of a healthy second one looks alike."""


def unexpected(settings: Settings, config: Path | None) -> list[Unexpected]:
    """Those that no relay which runs uses.

    Args:
        settings: of this relay.
        config: the file they are from; None for the default one.
    """
    wanted = settings.fast_path
    # What is on those that it is put on is looked at when it is: relayd/forwarding/kernel/attach.py.
    besides = wanted.interfaces if wanted.mode != "off" else ()
    try:
        return [
            Unexpected(one.sentence(config), one.whose is not Whose.UNKNOWN)
            for one in occupants(settings, besides)
            if not one.is_at_work
        ]
    except OSError as error:
        return [Unexpected(f"XDP programs on the interfaces of this host cannot be looked at: {error.strerror}", True)]


def occupants(settings: Settings, besides: Collection[str] = ()) -> Iterator[Occupant]:
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
            yield _occupant(interface, ifindex, program, settings)


def _occupant(interface: str, ifindex: int, program: int, settings: Settings) -> Occupant:
    try:
        name, maps = _program(program)
        if name != layout.PROGRAM or not maps.keys() >= _ITS_MAPS:
            whose = Whose.FOREIGN
        else:
            whose = Whose.THIS_RELAY if _is_for(settings, maps["control"]) else Whose.ANOTHER_RELAY
    except BpfError:
        name, whose = "", Whose.UNKNOWN
    link = link_holding(program, ifindex)
    return Occupant(interface, ifindex, program, name, whose, link, process_holding(link) if link else 0)


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


def _is_for(settings: Settings, control_map: int) -> bool:
    """Whether it has the ports and addresses of these settings, as far as this version can read what it has."""
    wanted = control(settings, layout.ControlFlag(0))
    one = BpfMap("control", checked(library().bpf_map_get_fd_by_id(control_map), "look at a map"))
    try:
        return digest_of(one) == layout.DIGEST and is_as_declared(one) and not serves_otherwise(one, wanted)
    finally:
        os.close(one.fd)


def _option(config: Path | None) -> str:
    return "" if config is None else f" --config {shlex.quote(str(config.absolute()))}"
