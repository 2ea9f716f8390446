"""Which addresses a webhook may be sent to.

A client that may create sessions names a URL that this machine then calls. Without a guard it reaches what only this
machine may reach: cloud metadata on 169.254.169.254, databases on loopback, the neighbours in the rack.
"""

import ipaddress
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# `is_global` of Python 3.11 knows the IANA special-purpose registries; these it takes for global all the same.
_ALSO_REFUSED: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "fec0::/10",  # site-local, RFC 3879
        "64:ff9b:1::/48",  # local-use NAT64, RFC 8215: the network decides what it means
        "2001::/23",  # protocol assignments with Teredo and ORCHID, RFC 2928
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
        "::/96",  # IPv4-compatible, RFC 4291
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def refused(address: str) -> bool:
    """Whether that address is none of the public internet's: loopback, link-local, private, shared (CGNAT), multicast,
    unspecified, reserved, or one of these inside an IPv6 address (mapped, NAT64, 6to4).

    Raises:
        ValueError: it is no IP address.
    """
    return _refused(ipaddress.ip_address(address))


def refused_literal(url: str) -> str | None:
    """Why that URL is refused for the address it names; None when it names a host, or an address that is fine."""
    host = urlsplit(url).hostname or ""
    try:
        bad = refused(host)
    except ValueError:
        return None
    return reason(host) if bad else None


def reason(host: str) -> str:
    """The sentence that refuses a host."""
    return (
        f"webhook_url: {host} is not on the public internet; use a public address, or set webhook_allow_private in the"
        " [api] section of the control plane."
    )


def _refused(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return _refused(inner)
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address.version == network.version and address in network for network in _ALSO_REFUSED)
    )


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one end up at."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return address.sixtofour
    return None
