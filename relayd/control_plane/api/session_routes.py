"""Sessions: tests/fixtures/edgegap-relays-v1.json in names and statuses."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from relayd.control_plane.api.answers import fails_with
from relayd.control_plane.api.requests import WHOLE_NUMBER, JsonBody, Plane, needs
from relayd.control_plane.forms import Asked
from relayd.control_plane.keys import Scope, digest
from relayd.control_plane.models import (
    PAGE_LIMIT,
    AuthorizedUser,
    AuthorizeRequest,
    CreateRequest,
    Pagination,
    RevokeRequest,
    SessionList,
)
from relayd.control_plane.render import session_fields
from relayd.core.relay_session import RelaySession

router = APIRouter(tags=["Relays"])

_read = [needs(Scope.SESSIONS_READ)]
_write = [needs(Scope.SESSIONS_WRITE)]


class _WhichPage(Asked):
    page: Annotated[int, Field(ge=1, le=2**31), WHOLE_NUMBER] = 1
    """Page, from 1."""
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT), WHOLE_NUMBER] = 50
    """Sessions a page."""


@router.post(
    "/v1/relays/sessions",
    operation_id="relay-session-create",
    summary="Create a Relay Session",
    dependencies=_write,
    response_model=RelaySession,
    responses=fails_with(400, 413),
)
async def create(plane: Plane, wanted: Annotated[CreateRequest, Depends(JsonBody(CreateRequest))]) -> Response:
    """Places a session on a relay. It is Ready as soon as the relay has it.

    It has status Error at once when no relay can take it, and within a minute when its relay fell silent before it had
    it: create another one then.
    """
    return JSONResponse(session_fields(await plane.create(wanted)))


@router.get(
    "/v1/relays/sessions",
    operation_id="relay-session-list",
    summary="List all Relay Sessions",
    dependencies=_read,
    response_model=SessionList,
    responses=fails_with(400),
)
async def list_sessions(request: Request, plane: Plane, which: Annotated[_WhichPage, Query()]) -> Response:
    """All sessions, oldest first, in pages.

    Read one after the other, with one key and one `limit` and within 5 minutes of each other, they leave out none that
    was there all the while, whatever was deleted meanwhile. Readers that share a key may see a session twice.
    """
    reader = digest(request.headers["authorization"]).hex()
    page = await plane.list(which.page, which.limit, reader)
    return JSONResponse(
        {
            "sessions": [session_fields(session) for session in page.sessions],
            "total_count": page.total,
            "pagination": Pagination.of(page).model_dump(),
        }
    )


@router.get(
    "/v1/relays/sessions/{session_id}",
    operation_id="relay-session-get",
    summary="Get a Relay Session",
    dependencies=_read,
    response_model=RelaySession,
    responses=fails_with(404),
)
async def get(plane: Plane, session_id: str) -> Response:
    """One session."""
    return JSONResponse(session_fields(await plane.get(session_id)))


@router.delete(
    "/v1/relays/sessions/{session_id}",
    operation_id="relay-session-delete",
    summary="Delete a Relay Session",
    dependencies=_write,
    status_code=204,
    response_description="No Content",
    responses=fails_with(404),
)
async def delete(plane: Plane, session_id: str) -> Response:
    """Ends the session; its relay forwards nothing of it from its next look at the control plane on."""
    await plane.delete(session_id)
    return Response(status_code=204)


@router.post(
    "/v1/relays/sessions:authorize-user",
    operation_id="relay-user-authorize",
    summary="Authorize a user on a Relay Session",
    dependencies=_write,
    response_model=AuthorizedUser,
    responses=fails_with(400, 404, 409, 413),
)
async def authorize(plane: Plane, wanted: Annotated[AuthorizeRequest, Depends(JsonBody(AuthorizeRequest))]) -> Response:
    """Lets one more user in. 409 when that address is in already, or the session failed."""
    authorized = await plane.authorize(wanted.session_id, wanted.user_ip)
    return JSONResponse(session_fields(AuthorizedUser.of(authorized.changed.session, authorized.user)))


@router.post(
    "/v1/relays/sessions:revoke-user",
    operation_id="relay-user-revoke",
    summary="Remove a user on a Relay Session",
    dependencies=_write,
    response_model=RelaySession,
    responses=fails_with(400, 404, 413)
    | {204: {"description": "No Content: part of the contract; this server answers 200"}},
)
async def revoke(plane: Plane, wanted: Annotated[RevokeRequest, Depends(JsonBody(RevokeRequest))]) -> Response:
    """Takes a user out; answers the session without it."""
    return JSONResponse(session_fields(await plane.revoke(wanted.session_id, wanted.authorization_token)))
