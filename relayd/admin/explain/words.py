"""How findings name times, addresses, users and numbers."""

from collections.abc import Iterable

from relayd.admin.explain.facts import Attempt, RelayFacts
from relayd.core.wire import Port
from relayd.log import short_token


def seconds(value: float) -> str:
    """``0.2 s``, ``12 s``, ``5 min``."""
    if value < 9.95:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def datagrams(number: int) -> str:
    """``1 datagram``, ``70 datagrams``."""
    return f"{number} datagram" if number == 1 else f"{number} datagrams"


def user_name(token: int | None) -> str:
    """A user as logs show it."""
    return "a user" if token is None else f"user {short_token(token)}"


def names(texts: Iterable[str], most: int = 5) -> str:
    """A list, cut where it gets long."""
    whole = list(texts)
    more = f" and {len(whole) - most} more" if len(whole) > most else ""
    return ", ".join(whole[:most]) + more


def port_name(relay: RelayFacts, port: Port) -> str:
    """``the client port, UDP 32001``."""
    return f"the {port.label} port, UDP {relay.client_port if port is Port.CLIENT else relay.server_port}"


def how_often(attempt: Attempt) -> str:
    """``70 datagrams from 198.51.100.4 in 10 s, the last 0.3 s ago``."""
    if attempt.datagrams == 1:
        return f"{datagrams(1)} from {attempt.ip_address} {seconds(attempt.last_seconds_ago)} ago"
    span = attempt.first_seconds_ago - attempt.last_seconds_ago
    return (
        f"{datagrams(attempt.datagrams)} from {attempt.ip_address} in {seconds(span)},"
        f" the last {seconds(attempt.last_seconds_ago)} ago"
    )
