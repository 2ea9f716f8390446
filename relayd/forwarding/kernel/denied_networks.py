"""Tells the kernel program which networks are denied."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from relayd.forwarding.kernel.layout import family_of, pack_ip
from relayd.forwarding.kernel.maps import BpfMap

_FAMILY_BITS = 32
_IPV4_AT = 96
"""Bits before an IPv4 address in the form that the maps have addresses in."""
_DENIED = (1).to_bytes(4, "little")


def write(denied: BpfMap, networks: Iterable[IPv4Network | IPv6Network]) -> None:
    """Makes the map hold these networks and no others: a predecessor's settings may have been different."""
    wanted = {_key(network) for network in networks}
    before = {key for key, _ in denied.items()}
    for key in before - wanted:
        denied.delete(key)
    for key in wanted - before:
        denied.update(key, _DENIED)


def _key(network: IPv4Network | IPv6Network) -> bytes:
    # Without the family a short IPv6 prefix would have all IPv4 addresses in it.
    prefix_bits = _FAMILY_BITS + network.prefixlen + (_IPV4_AT if network.version == 4 else 0)
    ip = str(network.network_address)
    return prefix_bits.to_bytes(4, "little") + family_of(ip).to_bytes(4, "little") + pack_ip(ip)
