"""Who calls: the address of the other side, or what the trusted proxies in front of it say."""

import ipaddress
from collections.abc import Sequence

from relayd.core.relay_session import canonical_ip

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Callers:
    """Tells the address of a caller.

    Args:
        trusted_proxies: addresses and networks of proxies whose `X-Forwarded-For` is believed.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted: list[Network] = [ipaddress.ip_network(text) for text in trusted_proxies]

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The address nearest to the server that is no trusted proxy's; of proxies alone the farthest.

        Each proxy appends the address it was called from, so what stands further left may be the caller's invention.

        Args:
            peer: the other side of the connection.
            forwarded_for: values of all `X-Forwarded-For` headers, in their order.
        """
        address = canonical_ip(peer.partition("%")[0])
        hops = [hop for value in forwarded_for for hop in value.split(",")]
        while hops and self.trusts(address):
            try:
                address = _hop(hops.pop().strip())
            except ValueError:
                break  # what is before it came through something that nobody can name
        return address

    def trusts(self, address: str) -> bool:
        """Whether that is the address of a trusted proxy."""
        asked = ipaddress.ip_address(address)
        return any(asked in network for network in self._trusted)


def _hop(text: str) -> str:
    """One address of the header. Some proxies write the port too: 192.0.2.1:4711, [2001:db8::1]:4711."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return canonical_ip(text)
