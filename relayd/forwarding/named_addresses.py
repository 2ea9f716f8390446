"""Whether this host has the addresses that `relay.bind` names: they may come later, or go while the relay runs."""

import errno
import socket
from collections.abc import Sequence
from pathlib import Path

import structlog

from relayd.errors import UnavailableError
from relayd.forwarding.addresses import local_addresses
from relayd.forwarding.sockets import EVERYWHERE, family_of, name_of

_AWAY = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT)
_NONLOCAL_BIND = {
    socket.AF_INET: Path("/proc/sys/net/ipv4/ip_nonlocal_bind"),
    socket.AF_INET6: Path("/proc/sys/net/ipv6/ip_nonlocal_bind"),
}
"""ip-sysctl of the kernel's documentation: with 1, any address can be bound to."""

_log = structlog.get_logger()


def is_here(ip_address: str) -> bool:
    """Whether this host has an address, and would take in what is sent to it.

    Raises:
        OSError: that cannot be told now.
    """
    family = family_of(ip_address)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            # Refused while an IPv6 address is tentative too, which a list of addresses would not tell.
            sock.bind(name_of(ip_address, 0))
    except OSError as error:
        if error.errno in _AWAY:
            return False
        raise
    return not _any_can_be_bound(family) or ip_address in local_addresses()


def _any_can_be_bound(family: socket.AddressFamily) -> bool:
    try:
        return _NONLOCAL_BIND[family].read_text(encoding="ascii").strip() == "1"
    except OSError:
        # Hidden by the units' ProcSubset=pid; 0 where nobody has set it.
        return False


class NamedAddresses:
    """Follows the addresses that sockets are bound to one by one.

    Args:
        bind: relay.bind of the settings.
    """

    def __init__(self, bind: Sequence[str]) -> None:
        self.up = {address: True for address in bind if address not in EVERYWHERE}
        """Each of them → whether this host has it."""
        self._alone = len(self.up) == len(bind)
        self.refresh()

    def refresh(self) -> None:
        """Looks again, and has the log say what changed. To be called about every second."""
        for address, before in self.up.items():
            try:
                up = is_here(address)
            except OSError:
                continue
            if up != before:
                self.up[address] = up
                if up:
                    _log.info("this host has an address of relay.bind again", address=address)
                else:
                    _log.warning("this host does not have an address of relay.bind: nobody reaches it", address=address)

    @property
    def away(self) -> list[str]:
        """Those that this host does not have."""
        return [address for address, up in self.up.items() if not up]

    @property
    def reachable(self) -> bool:
        """Whether there is an address that the relay can be reached at."""
        return not self._alone or any(self.up.values())


def examine_addresses(bind: Sequence[str]) -> list[str]:
    """What `relayd check` says: a line for each address that this host does not have.

    Raises:
        UnavailableError: it has none of them.
    """
    named = [address for address in bind if address not in EVERYWHERE]
    try:
        away = [address for address in named if not is_here(address)]
    except OSError as error:
        return [f"warning  relay.bind: whether this host has its addresses cannot be told: {error}"]
    way_out = "`ip address` lists those it has; it is served as soon as the host gets it"
    if away == list(bind):
        raise UnavailableError(f"relay.bind: {', '.join(away)}: this host has no such address; {way_out}")
    return [f"warning  relay.bind: {address}: this host has no such address; {way_out}" for address in away]
