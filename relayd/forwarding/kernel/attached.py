"""Interfaces that the program is on, and what a look at the host tells of them."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from relayd.forwarding.kernel.attach import Link, link_ifindex
from relayd.forwarding.kernel.ethtool import driver
from relayd.forwarding.kernel.interface_counters import VETH, InterfaceCounters, Moved
from relayd.forwarding.kernel.loss import LossWatch


class Attached:
    """An interface that the program was put on.

    Args:
        link: the program on it.
        now: seconds.
    """

    def __init__(self, link: Link, now: float) -> None:
        self.link = link
        self.watch = LossWatch(now)
        self.counters = InterfaceCounters(link.interface)
        with suppress(OSError):  # it is gone again
            self.counters.moved()
        self.taken_off = False
        """By somebody else, who does not want it there."""
        self.way_out = _way_out(link.interface)

    @property
    def sends(self) -> bool:
        """Whether the program may send by it."""
        return self.watch.forwards and not self.taken_off


class Seen(NamedTuple):
    """A look at the host."""

    indexes: dict[str, int]
    """Of its interfaces, by name."""
    links: dict[str, int]
    """On which interface each link is, by the name it was made for; 0 for none."""
    moved: dict[str, Moved]


def survey(on: Mapping[str, Attached]) -> Seen:
    """Looks at the host, and at these interfaces by the names they have in the settings."""
    moved: dict[str, Moved] = {}
    for name, one in on.items():
        try:
            moved[name] = one.counters.moved()
        except OSError:
            continue  # it is gone
    links = {name: link_ifindex(one.link.fd) for name, one in on.items()}
    return Seen(indexes_by_name(), links, moved)


def indexes_by_name() -> dict[str, int]:
    """Of all interfaces of this thread's network."""
    return {name: index for index, name in socket.if_nameindex()}


def _way_out(interface: str) -> str:
    if driver(interface) == VETH:
        return (
            "a veth takes what XDP sends only where its far end runs an XDP program too, be it one that only passes:"
            ' docs/fast-path.md says how; or set fast_path.mode = "off"'
        )
    return f'see `ethtool -S {interface}` for what its driver drops, and why; or set fast_path.mode = "off"'
