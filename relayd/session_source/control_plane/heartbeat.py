"""What a relay says of itself with each heartbeat, whatever carries it: the one place that names the fields."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from relayd.core.limits import Limits
from relayd.session_source.control_plane.last_good import as_relay_session
from relayd.session_source.control_plane.link import Report
from relayd.settings import RelaySettings

_MOST_CAPACITY = 1_000_000
"""What a control plane takes for the capacity of one relay."""
_MOST_ADDRESSES = 32
"""The same for its addresses."""


class Heartbeats:
    """Makes the heartbeats of one relay.

    Args:
        relay: where it is reached, and where it stands.
        limits: how much it takes.
    """

    def __init__(self, relay: RelaySettings, limits: Limits) -> None:
        server_port, client_port = relay.named_ports
        self._about = {
            "ip": relay.public_ip,
            "host": relay.public_host,
            "server_port": server_port,
            "client_port": client_port,
            "attributes": relay.attributes,
            "latitude": relay.latitude,
            "longitude": relay.longitude,
            "own_ports": [relay.server_port, relay.client_port],
            "capacity": min(limits.max_bound_users, _MOST_CAPACITY),
        }

    def fields(self, report: Report) -> dict[str, Any]:
        """The fields of `Heartbeat` of relayd/control_plane/node_models.py, for JSON."""
        return {
            **self._about,
            "own_addresses": _seen_by_others(report.load.addresses),
            "load": report.load.bound_users,
            "draining": report.load.draining,
            "epoch": report.applied.epoch if report.applied else None,
            "revision": report.applied.revision if report.applied else 0,
            "ended": list(report.ended),
            "fleet": report.fleet,
            "handed_back": [as_relay_session(spec) for spec in report.handed_back],
        }


def _seen_by_others(addresses: Iterable[str]) -> list[str]:
    """Those that another host can see datagrams from; of too many, those that others reach as well come first."""
    found = [ipaddress.ip_address(one) for one in addresses]
    usable = [one for one in found if not one.is_loopback and not one.is_link_local]
    return [str(one) for one in sorted(usable, key=lambda one: (not one.is_global, str(one)))[:_MOST_ADDRESSES]]
