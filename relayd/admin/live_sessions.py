"""Live sessions as the admin API shows them."""

from collections.abc import Callable
from typing import Any

from relayd.core.counters import Traffic
from relayd.core.pings import Pings
from relayd.core.session import Binding, Session, User
from relayd.core.wire import Port
from relayd.log import short_token

Heard = Callable[[Binding], float]
PingsOf = Callable[[Binding], Pings | None]


def summarise_session(session: Session) -> dict[str, Any]:
    """One line of the list of sessions."""
    return {
        "session_id": session.session_id,
        "users": len(session.users),
        "host_bound": session.host is not None,
        "players_bound": session.bound - (session.host is not None),
        **_directions(session.traffic()),
        "dropped": sum(session.drops.values()) if session.drops else 0,
    }


def describe_session(session: Session, now: float, heard: Heard, pings_of: PingsOf) -> dict[str, Any]:
    """All there is to say of a session.

    Args:
        session: a session of the table.
        now: seconds, on the clock the table is used with.
        heard: when a binding was last heard, on the same clock.
        pings_of: the PINGs of a binding.
    """
    return {
        "session_id": session.session_id,
        "authorization_token": short_token(session.token),
        **_directions(session.traffic()),
        "drops": {verdict.label: count for verdict, count in (session.drops or {}).items()},
        "users": [_describe_user(user, now, heard, pings_of) for user in session.users.values()],
    }


def _describe_user(user: User, now: float, heard: Heard, pings_of: PingsOf) -> dict[str, Any]:
    bindings = [binding for binding in (user.server_binding, user.client_binding) if binding is not None]
    return {
        "authorization_token": short_token(user.token),
        "ip_address": user.ip_address,
        "role": "host" if user.server_binding else "player" if user.client_binding else None,
        "bindings": [_describe_binding(binding, now, heard(binding), pings_of(binding)) for binding in bindings],
        **_directions(user.traffic or Traffic()),
    }


def _describe_binding(binding: Binding, now: float, heard_at: float, pings: Pings | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "port": binding.port.label,
        "address": {"ip": binding.address[0], "port": binding.address[1]},
        "bound_seconds": round(now - binding.bound_at, 3),
        "last_seen_seconds_ago": round(max(0.0, now - heard_at), 3),
    }
    if binding.port is Port.CLIENT:
        shown["connection_id"] = binding.user.connection_id
    if pings is not None:
        shown["pings"] = {
            "heard": pings.heard,
            "missed": pings.missed,
            "loss": round(pings.loss, 4),
            "interval_jitter_seconds": round(pings.interval_jitter_seconds, 6),
        }
    return shown


def _directions(traffic: Traffic) -> dict[str, Any]:
    return {
        "to_host": {"datagrams": traffic.to_host_datagrams, "bytes": traffic.to_host_bytes},
        "to_player": {"datagrams": traffic.to_player_datagrams, "bytes": traffic.to_player_bytes},
    }
