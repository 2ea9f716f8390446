"""The relays' side of the API: heartbeats, and the sessions each relay is to serve. Not part of the public contract."""

import hashlib
from typing import Any

from fastapi import FastAPI, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from relayd.control_plane.api.requests import body_of, whole_number
from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.models import PAGE_LIMIT, Heartbeat, Name, NodeRevision, NodeSessions
from relayd.control_plane.service import LONGEST_WAIT, ControlPlane
from relayd.core.relay_session import RelaySession

HEARTBEAT_LIMIT = 4 << 20
"""Bytes of a heartbeat: room for some 200,000 ended sessions."""

_DEFAULT_LIMIT = 200
_LAST_REVISION = 2**62
_name: TypeAdapter[str] = TypeAdapter(Name)
_sessions = TypeAdapter(list[RelaySession])


def add_node_routes(app: FastAPI, control_plane: ControlPlane, write: list[Any]) -> None:
    """Adds both routes; `write` is the condition for them."""

    @app.put("/v1/relays/nodes/{node_id}", dependencies=write)
    async def heartbeat(node_id: str, request: Request) -> Response:
        check_name(node_id)
        wait = _seconds(request, "wait")
        beat = await body_of(request, Heartbeat, HEARTBEAT_LIMIT)
        answer = await control_plane.heartbeat(node_id, beat, wait)
        return JSONResponse(answer.model_dump())

    @app.get("/v1/relays/nodes/{node_id}/sessions", dependencies=write)
    async def node_sessions(node_id: str, request: Request) -> Response:
        since = whole_number(request, "since", 0, 0, _LAST_REVISION)
        limit = whole_number(request, "limit", _DEFAULT_LIMIT, 1, PAGE_LIMIT)
        tag = _etag(request, control_plane.newest(node_id))
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"ETag": tag})
        epoch, after = request.query_params.get("epoch"), request.query_params.get("after") or None
        answer = await control_plane.node_sessions(node_id, since, epoch, after, limit)
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


def check_name(node_id: str) -> None:
    """Raises InvalidRequestError for what cannot be the name of a relay."""
    try:
        _name.validate_python(node_id)
    except ValidationError:
        raise InvalidRequestError("The name of a relay has 1 to 128 characters.") from None


def _seconds(request: Request, name: str) -> float:
    text = request.query_params.get(name, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise InvalidRequestError(f"{name}: must be seconds from 0 to {LONGEST_WAIT:.0f}.")
    return seconds
