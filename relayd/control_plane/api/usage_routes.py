"""Usage over HTTP: relays report it, backends read sums of it. Not part of the public contract."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import JSONResponse, Response

from relayd.control_plane.api.answers import fails_with
from relayd.control_plane.api.node_routes import NodeName
from relayd.control_plane.api.requests import WHOLE_NUMBER, JsonBody, Plane, needs
from relayd.control_plane.forms import Asked
from relayd.control_plane.keys import Scope
from relayd.control_plane.usage_models import SessionUsage, UnixTime, UsageList, UsageQuery, UsageReport

_REPORT_LIMIT = 2 << 20
"""Bytes: room for 1,000 records with long names."""

_BETWEEN = "/"
"""Between session and relay in `next`; no name of a relay has it."""

router = APIRouter(tags=["Usage"])


def _cursor(text: str) -> str:
    if _BETWEEN not in text:
        raise ValueError("must be what `next` of the page before says")
    return text


_Cursor = Annotated[str, AfterValidator(_cursor), WithJsonSchema({"type": "string", "pattern": _BETWEEN})]


class _WhichUsage(Asked):
    session_id: str | SkipJsonSchema[None] = None
    """Of that session alone."""
    relay: str | SkipJsonSchema[None] = None
    """Of that relay alone."""
    since: UnixTime | SkipJsonSchema[None] = None
    """Unix time; of records whose period ended then or later."""
    until: UnixTime | SkipJsonSchema[None] = None
    """Unix time; of records whose period ended before."""
    after: _Cursor | SkipJsonSchema[None] = None
    """`next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=1000), WHOLE_NUMBER] = 100
    """Sums a page."""


@router.get(
    "/v1/relays/usage",
    operation_id="relay-usage-list",
    summary="What sessions used",
    dependencies=[needs(Scope.SESSIONS_READ)],
    response_model=UsageList,
    responses=fails_with(400),
)
async def usage(plane: Plane, which: Annotated[_WhichUsage, Query()]) -> Response:
    """Sums by session and relay, also of sessions that are gone."""
    session_id, _, relay = (which.after or "").rpartition(_BETWEEN)
    query = UsageQuery(
        session_id=which.session_id,
        relay=which.relay,
        since=which.since,
        until=which.until,
        after=(session_id, relay) if which.after else None,
        limit=which.limit + 1,
    )
    found = await plane.usage(query)
    last = found[which.limit - 1] if len(found) > which.limit else None
    answer = UsageList(
        usage=[SessionUsage.of(one) for one in found[: which.limit]],
        next=f"{last.session_id}{_BETWEEN}{last.relay}" if last else None,
    )
    return JSONResponse(answer.model_dump(by_alias=True))


@router.post(
    "/v1/relays/nodes/{node_id}/usage",
    operation_id="relay-node-usage",
    summary="Usage that a relay reports",
    dependencies=[needs(Scope.NODES_WRITE)],
    status_code=204,
    response_description="No Content",
    responses=fails_with(400, 413),
)
async def report(
    plane: Plane,
    node_id: NodeName,
    records: Annotated[UsageReport, Depends(JsonBody(UsageReport, _REPORT_LIMIT))],
) -> Response:
    """Takes usage records, each once however often it comes. 204 once no crash loses them."""
    await plane.take_usage(node_id, records)
    return Response(status_code=204)
