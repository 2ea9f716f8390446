"""`relayd fast-path`: shows what of the kernel fast path is pinned on this host, and takes it off."""

import os
from collections.abc import Mapping
from pathlib import Path

import typer

from relayd import settings
from relayd.commands.options import Config
from relayd.errors import UnavailableError
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.attach import attached_mode, link_ifindex, link_program
from relayd.forwarding.kernel.fitness import digest_of, is_as_declared
from relayd.forwarding.kernel.libbpf import LibraryMissingError, library
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.occupants import Occupant, Whose, occupants
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.taking_off import detach_link

fast_path = typer.Typer(no_args_is_help=True, add_completion=False)


@fast_path.command(help="Say on which interfaces the kernel program is, what it serves, and what keeps it.")
def status(config: Config = None) -> None:
    """Prints where the program is and what it serves, whether or not a relayd is running.

    Raises:
        UnavailableError: libbpf is missing, or there is no right to look.
    """
    pins = _pins(_load(config))
    try:
        links, maps = pins.links(), pins.maps()
    except OSError as error:
        raise UnavailableError(f"{pins.folder}: {error.strerror}") from None
    if not links and not maps:
        typer.echo(f"nothing is pinned in {pins.folder}: the fast path is off")
        return
    typer.echo(f"pinned      {pins.folder}")
    digest = digest_of(maps.get("control"))
    sends_by = _sends_by(maps) if digest == layout.DIGEST else None
    for interface, fd in links.items():
        typer.echo(f"interface   {interface}: {_state(fd, sends_by)}")
        os.close(fd)
    if digest is not None:
        ours = "" if digest == layout.DIGEST else ", to be replaced by this version"
        typer.echo(f"layout      {digest:016x}{ours}")
    if digest == layout.DIGEST and "pairs" in maps and is_as_declared(maps["pairs"]):
        authorized = bound = 0
        for _, value in tuple(maps["pairs"].items()):
            authorized += 1
            bound += sum(1 for slot in layout.Pair.from_buffer_copy(value).slots if slot)
        typer.echo(f"users       {authorized} authorized, {bound} bindings served")
    for one in maps.values():
        os.close(one.fd)


@fast_path.command(help="Take the kernel program off all interfaces and forget its pinned state.")
def remove(config: Config = None) -> None:
    """Takes the program off and forgets what is pinned. A running relayd continues with its sockets alone.

    Raises:
        UnavailableError: libbpf is missing, or there is no right to.
    """
    loaded = _load(config)
    pins = _pins(loaded)
    try:
        if pins.exist():
            pins.remove()
            typer.echo(f"removed {pins.folder}")
        else:
            typer.echo(f"nothing is pinned in {pins.folder}")
        for one in tuple(occupants(loaded)):
            _take_off(one, config)
    except OSError as error:
        raise UnavailableError(f"{pins.folder}: {error.strerror}") from None


def _sends_by(maps: Mapping[str, BpfMap]) -> set[int] | None:
    """Indexes of the interfaces that the program may send by; None where that cannot be read."""
    found = maps.get("interfaces")
    if found is None or not is_as_declared(found):
        return None
    return {int.from_bytes(key, "little") for key, _ in found.items()}


def _state(link: int, sends_by: set[int] | None) -> str:
    ifindex = link_ifindex(link)
    if not ifindex:
        return "taken off"
    sockets = ", but it lost what the program sent by it: the sockets serve"
    return (
        f"on, {attached_mode(ifindex).name.lower()}, program {link_program(link)}"
        f"{'' if sends_by is None or ifindex in sends_by else sockets}"
    )


def _take_off(one: Occupant, config: Path | None) -> None:
    """What was this relay's and is pinned elsewhere; nothing of another relay that runs, and of the rest, how to."""
    if one.is_at_work:
        if one.whose is Whose.THIS_RELAY:
            typer.echo(f"left alone: {one.sentence(config)}")
    elif one.whose is Whose.THIS_RELAY and one.link:
        detach_link(one.link)
        typer.echo(f"removed from {one.interface}: XDP program {one.program}, kept elsewhere")
    else:
        typer.echo(f"left alone: {one.sentence(config)}")


def _load(config: Path | None) -> settings.Settings:
    try:
        library()
    except LibraryMissingError as error:
        raise UnavailableError(str(error)) from None
    return settings.load(config)


def _pins(loaded: settings.Settings) -> Pins:
    return Pins(loaded.fast_path.pin_directory, loaded.relay.id)
