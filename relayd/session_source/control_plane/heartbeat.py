"""What a relay says of itself with each heartbeat, whatever carries it: the one place that names the fields."""

from typing import Any

from relayd.core.limits import Limits
from relayd.session_source.control_plane.link import Report
from relayd.settings import RelaySettings

_MOST_CAPACITY = 1_000_000
"""What a control plane takes for the capacity of one relay."""


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
            "capacity": min(limits.max_bound_users, _MOST_CAPACITY),
        }

    def fields(self, report: Report) -> dict[str, Any]:
        """The fields of `Heartbeat` of relayd/control_plane/models.py, for JSON."""
        return {
            **self._about,
            "load": report.load.bound_users,
            "draining": report.load.draining,
            "epoch": report.applied.epoch if report.applied else None,
            "revision": report.applied.revision if report.applied else 0,
            "ended": list(report.ended),
        }
