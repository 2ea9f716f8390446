"""What `relayd check` says of the fast path: whether this host can have it, a line each, without putting it on."""

import os
import platform
import socket
from pathlib import Path

from relayd.errors import UnavailableError
from relayd.forwarding.kernel.attach import examine, link_ifindex
from relayd.forwarding.kernel.ethtool import driver
from relayd.forwarding.kernel.interface_counters import VETH
from relayd.forwarding.kernel.occupants import unexpected
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.settings import Settings

_AT_A_VETH = "; its far end has to run an XDP program too, or the sockets will serve: docs/fast-path.md"


def examine_fast_path(settings: Settings, config: Path | None = None) -> list[str]:
    """A line for each thing the fast path needs.

    Args:
        settings: the configuration.
        config: the file it was read from; None for the default one.

    Raises:
        UnavailableError: it is required and not available.
    """
    return _examine(settings) + [f"warning  {one.sentence}" for one in unexpected(settings, config)]


def _examine(settings: Settings) -> list[str]:
    wanted = settings.fast_path
    if wanted.mode == "off":
        return ["ok       fast path is off: fast_path.mode"]
    findings: list[str] = []
    problems: list[str] = []
    if not wanted.interfaces:
        if wanted.mode == "require":
            raise UnavailableError('fast_path.interfaces: names none, and fast_path.mode is "require"')
        return ['ok       fast path is off: fast_path.interfaces names none, such as ["eth0"]']
    try:
        KernelProgram.load(Sizes(1, 1)).close()
        findings.append(f"ok       kernel {platform.release()} takes the fast path's program")
        findings += _interfaces(settings, problems)
    except UnavailableError as error:
        problems.append(str(error))
    try:
        Pins(wanted.pin_directory, settings.relay.id).examine()
    except UnavailableError as error:
        problems.append(str(error))
    else:
        findings.append(f"ok       {wanted.pin_directory} keeps the fast path over a restart")
    if problems and wanted.mode == "require":
        raise UnavailableError("\n".join(problems))
    return findings + [f"warning  {problem}" for problem in problems]


def _interfaces(settings: Settings, problems: list[str]) -> list[str]:
    findings = []
    ours = _attached(settings)
    for interface in settings.fast_path.interfaces:
        if interface in ours:
            findings.append(f"ok       fast path is on {interface} already")
            continue
        try:
            examine(interface)
        except UnavailableError as error:
            problems.append(str(error))
        else:
            name = driver(interface)
            findings.append(
                f"ok       {interface} is free for the fast path (driver {name}; generic where the driver"
                f" cannot do it natively{_AT_A_VETH if name == VETH else ''})"
            )
    return findings


def _attached(settings: Settings) -> set[str]:
    """The interfaces that this relay's program is on."""
    try:
        links = Pins(settings.fast_path.pin_directory, settings.relay.id).links()
    except OSError:
        return set()  # no right to look; `Pins.examine` says so
    found = set()
    indexes = {name: index for index, name in socket.if_nameindex()}
    for interface, fd in links.items():
        if link_ifindex(fd) == indexes.get(interface):
            found.add(interface)
        os.close(fd)
    return found
