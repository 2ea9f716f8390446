"""Source addresses that nobody is let in from.

No datagram can rightly have some of them, and an answer to one of these may start an endless loop; others are denied.
"""

from collections.abc import Collection

from relayd.core.endpoint import Address
from relayd.core.limits import Limits

_FIRST_MULTICAST = 224


class BadSources:
    """Knows the addresses and ports of the relay itself and of its fleet, as far as it is told.

    Args:
        limits: the networks that are denied.
    """

    def __init__(self, limits: Limits) -> None:
        self.own_ports: Collection[int] = ()
        """Of its sockets, and as a NAT in front of it maps them."""
        self.own_addresses: Collection[str] = ()
        """IP addresses that the relay's sockets are reached at, and the one that it has at a NAT."""
        self.relays: Collection[tuple[str, int]] = frozenset()
        """IP address and port of each socket of the fleet's relays: of two that are each other's host and player, one
        sends the other what it hears for ever."""
        self._denies = limits.denies

    def is_bad(self, source: Address) -> bool:
        """Whether a datagram from there is dropped before anything in it is read."""
        ip, port = source[0], source[1]
        if port == 0 or (port in self.own_ports and self._is_own(ip)) or self.is_relay(source):
            return True
        return is_nobodys(ip) or self._denies(ip)

    def is_relay(self, source: Address) -> bool:
        """Whether a relay of the fleet sends from there."""
        return source[:2] in self.relays

    def _is_own(self, ip: str) -> bool:
        # All of 127.0.0.0/8 is this host (RFC 1122, 3.2.1.3), though only one address of it is listed.
        return ip in self.own_addresses or (ip.startswith("127.") and "127.0.0.1" in self.own_addresses)


def is_nobodys(ip: str) -> bool:
    """Multicast, broadcast, reserved or no address at all: none is a host's own (RFC 1122, 3.2.1.3; RFC 4291, 2.7)."""
    if ":" in ip:
        return ip == "::" or ip[:2].lower() == "ff"
    first = int(ip.partition(".")[0])
    return first == 0 or first >= _FIRST_MULTICAST
