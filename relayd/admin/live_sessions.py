"""Live sessions as the admin API shows them."""

from typing import Any

from relayd.admin.answers import Address, BoundAt, Count, PingSummary, SessionDetails, SessionSummary, UserDetails
from relayd.core.counters import Traffic
from relayd.core.presence import Presence
from relayd.core.session import Binding, Session, User
from relayd.core.wire import Port
from relayd.log import short_token


def summarise_session(session: Session) -> SessionSummary:
    """One line of the list of sessions."""
    traffic = session.traffic()
    return SessionSummary(
        session_id=session.session_id,
        users=len(session.users),
        host_bound=session.host is not None,
        players_bound=session.bound - (session.host is not None),
        to_host=_to_host(traffic),
        to_player=_to_player(traffic),
        dropped=sum(session.drops.values()) if session.drops else 0,
    )


def describe_session(session: Session, now: float, presence: Presence) -> SessionDetails:
    """All there is to say of a session.

    Args:
        session: a session of the table.
        now: seconds, on the clock the table is used with.
        presence: when a binding was last heard, on the same clock, and its PINGs.
    """
    traffic = session.traffic()
    return SessionDetails(
        session_id=session.session_id,
        authorization_token=short_token(session.token),
        to_host=_to_host(traffic),
        to_player=_to_player(traffic),
        drops={verdict.label: count for verdict, count in (session.drops or {}).items()},
        users=[_describe_user(user, now, presence) for user in session.users.values()],
    )


def _describe_user(user: User, now: float, presence: Presence) -> UserDetails:
    traffic = user.traffic or Traffic()
    bindings = [binding for binding in (user.server_binding, user.client_binding) if binding is not None]
    return UserDetails(
        authorization_token=short_token(user.token),
        ip_address=user.ip_address,
        role="host" if user.server_binding else "player" if user.client_binding else None,
        bindings=[_describe_binding(binding, now, presence) for binding in bindings],
        to_host=_to_host(traffic),
        to_player=_to_player(traffic),
    )


def _describe_binding(binding: Binding, now: float, presence: Presence) -> BoundAt:
    pings = presence.pings(binding)
    only_where_known: dict[str, Any] = {}
    if binding.port is Port.CLIENT:
        only_where_known["connection_id"] = binding.user.connection_id
    if pings is not None:
        only_where_known["pings"] = PingSummary(
            heard=pings.heard,
            missed=pings.missed,
            loss=round(pings.loss, 4),
            interval_jitter_seconds=round(pings.interval_jitter_seconds, 6),
        )
    return BoundAt(
        port=binding.port.label,
        address=Address(ip=binding.address[0], port=binding.address[1]),
        bound_seconds=round(now - binding.bound_at, 3),
        last_seen_seconds_ago=round(max(0.0, now - presence.last_heard(binding)), 3),
        **only_where_known,
    )


def _to_host(traffic: Traffic) -> Count:
    return Count(datagrams=traffic.to_host_datagrams, bytes=traffic.to_host_bytes)


def _to_player(traffic: Traffic) -> Count:
    return Count(datagrams=traffic.to_player_datagrams, bytes=traffic.to_player_bytes)
