"""The relays' side of the API: heartbeats, and the sessions each relay is to serve. Not part of the public contract."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import JSONResponse, Response

from relayd.control_plane.api.answers import fails_with
from relayd.control_plane.api.requests import WHOLE_NUMBER, JsonBody, Plane, needs
from relayd.control_plane.forms import Asked
from relayd.control_plane.keys import Scope
from relayd.control_plane.models import PAGE_LIMIT
from relayd.control_plane.node_models import Heartbeat, NodeRevision, NodeSessions
from relayd.control_plane.service import LONGEST_WAIT
from relayd.core.relay_session import RelaySession

HEARTBEAT_LIMIT = 4 << 20
"""Bytes of a heartbeat: room for some 200,000 ended sessions."""

NodeName = Annotated[str, Path(min_length=1, max_length=128, description="The relay's `relay.id`.")]

router = APIRouter(tags=["Nodes"], dependencies=[needs(Scope.NODES_WRITE)])

_sessions = TypeAdapter(list[RelaySession])


class _HowLong(Asked):
    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT, allow_inf_nan=False)] = 0
    """Seconds that the answer is held back for, until there is something new."""


class _WhichSessions(Asked):
    since: Annotated[int, Field(ge=0, le=2**62), WHOLE_NUMBER] = 0
    """The newest revision it has applied."""
    epoch: str | SkipJsonSchema[None] = None
    """What that revision belongs to; without it, all sessions are told."""
    after: str | SkipJsonSchema[None] = None
    """`next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT), WHOLE_NUMBER] = 200
    """Sessions a page."""


@router.put(
    "/v1/relays/nodes/{node_id}",
    operation_id="relay-node-heartbeat",
    summary="Heartbeat of a relay",
    response_model=NodeRevision,
    responses=fails_with(400, 409, 413),
)
async def heartbeat(
    plane: Plane,
    node_id: NodeName,
    beat: Annotated[Heartbeat, Depends(JsonBody(Heartbeat, HEARTBEAT_LIMIT))],
    how_long: Annotated[_HowLong, Query()],
) -> Response:
    """Says how the relay fares, and is told the newest revision of its sessions.

    409 while another relay is heard under that name.
    """
    answer = await plane.heartbeat(node_id, beat, how_long.wait)
    return JSONResponse(answer.model_dump(exclude_none=True))


@router.get(
    "/v1/relays/nodes/{node_id}/sessions",
    operation_id="relay-node-sessions",
    summary="Sessions of a relay",
    response_model=NodeSessions,
    responses=fails_with(400, 404) | {304: {"description": "Not Modified: the `If-None-Match` still holds"}},
)
async def node_sessions(
    request: Request, plane: Plane, node_id: NodeName, which: Annotated[_WhichSessions, Query()]
) -> Response:
    """The relay's sessions in pages, or with `epoch` and `since` what changed after that revision."""
    tag = _etag(request, plane.newest(node_id))
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    answer = await plane.node_sessions(
        node_id, since=which.since, epoch=which.epoch, after=which.after or None, limit=which.limit
    )
    return Response(_json(answer), media_type="application/json", headers={"ETag": _etag(request, answer)})


def _json(answer: NodeSessions) -> bytes:
    """What a session lacks is left out; `next` is null on the last page."""
    # Both dumps are compact objects: joined without their braces.
    head = answer.model_dump_json(exclude={"sessions"}).encode()
    return head[:-1] + b',"sessions":' + _sessions.dump_json(answer.sessions, exclude_none=True) + b"}"


def _etag(request: Request, state: NodeRevision | NodeSessions) -> str:
    """Names the state and the question. Weak: a session's status may change without a revision."""
    about = f"{state.epoch} {state.revision} {request.scope['path']} {request.url.query}"
    return f'W/"{hashlib.sha256(about.encode()).hexdigest()[:24]}"'
