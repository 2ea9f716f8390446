"""Usage over HTTP: relays report it, backends read sums of it. Not part of the public contract."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from relayd.control_plane.api.nodes import check_name
from relayd.control_plane.api.requests import body_of, unix_time, whole_number
from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.usage_models import UsageQuery, UsageReport, UsageSum

_REPORT_LIMIT = 2 << 20
"""Bytes: room for 1,000 records with long names."""
_PAGE_LIMIT = 1000
_BETWEEN = "/"
"""Between session and relay in `next`; no name of a relay has it."""


def add_usage_routes(app: FastAPI, control_plane: ControlPlane, read: list[Any], write: list[Any]) -> None:
    """Adds both routes.

    Args:
        app: the application.
        control_plane: what it serves.
        read: the condition for reading.
        write: the condition for reporting.
    """

    @app.post("/v1/relays/nodes/{node_id}/usage", dependencies=write)
    async def report(node_id: str, request: Request) -> Response:
        check_name(node_id)
        await control_plane.take_usage(node_id, await body_of(request, UsageReport, _REPORT_LIMIT))
        return Response(status_code=204)

    @app.get("/v1/relays/usage", dependencies=read)
    async def usage(request: Request) -> Response:
        limit = whole_number(request, "limit", 100, 1, _PAGE_LIMIT)
        parameters = request.query_params
        query = UsageQuery(
            session_id=parameters.get("session_id"),
            relay=parameters.get("relay"),
            since=unix_time(request, "since"),
            until=unix_time(request, "until"),
            after=_cursor(parameters.get("after")),
            limit=limit + 1,
        )
        found = await control_plane.usage(query)
        last = found[limit - 1] if len(found) > limit else None
        return JSONResponse(
            {
                "usage": [_fields(one) for one in found[:limit]],
                "next": f"{last.session_id}{_BETWEEN}{last.relay}" if last else None,
            }
        )


def _cursor(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    session_id, between, relay = text.rpartition(_BETWEEN)
    if not between:
        raise InvalidRequestError("after: must be what `next` of the page before says.")
    return session_id, relay


def _fields(one: UsageSum) -> dict[str, Any]:
    counts = one.counts
    return {
        "session_id": one.session_id,
        "relay": one.relay,
        "from": one.from_at,
        "to": one.to_at,
        "ended": one.ended,
        "to_host": {"datagrams": counts.to_host_datagrams, "bytes": counts.to_host_bytes},
        "to_player": {"datagrams": counts.to_player_datagrams, "bytes": counts.to_player_bytes},
    }
