"""Tells the kernel program the relay's addresses: only what is sent to one of them is the relay's.

Without this the program would take a datagram that is only on its way through this host for one of its own.
"""

from collections.abc import Sequence

from relayd.forwarding.addresses import reached_at
from relayd.forwarding.kernel.layout import pack_ip
from relayd.forwarding.kernel.maps import BpfMap

_AT_A_NAT = 0
"""Instead of the number of an endpoint: what is sent there does not arrive here under that address."""


class AddressBook:
    """Keeps the map `addresses`: the host's addresses that the relay is bound at, with the endpoint of each.

    Args:
        addresses: the map.
        bind: what the relay is bound to, in the order of its endpoints.
        public_ip: the address that it has at a NAT, if there is one.
    """

    def __init__(self, addresses: BpfMap, bind: Sequence[str], public_ip: str) -> None:
        self._map = addresses
        self._bind = list(bind)
        self._public = pack_ip(public_ip)
        self._written = {bytes(key): int.from_bytes(value, "little") for key, value in addresses.items()}

    def refresh(self) -> None:
        """Follows changes of the host's addresses. To be called about every second."""
        wanted = {self._public: _AT_A_NAT}
        wanted |= {pack_ip(ip): self._bind.index(bound) + 1 for ip, bound in reached_at(self._bind).items()}
        # Noted one by one: what is in the map when there is no room for the next one is still to be taken out some day.
        for key in self._written.keys() - wanted.keys():
            self._map.delete(key)
            del self._written[key]
        for key, endpoint in wanted.items():
            if self._written.get(key) != endpoint:
                self._map.update(key, endpoint.to_bytes(4, "little"))
                self._written[key] = endpoint
