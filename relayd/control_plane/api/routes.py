"""The REST API over the service: openapi/edgegap-relays-v1.json in names and statuses."""

import re
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from relayd.control_plane.api.auth import Authenticator
from relayd.control_plane.api.docs_page import docs_page
from relayd.control_plane.api.nodes import add_node_routes
from relayd.control_plane.api.openapi import document
from relayd.control_plane.api.requests import add_error_handlers, body_of, needs, whole_number
from relayd.control_plane.api.usage import add_usage_routes
from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.keys import Scope
from relayd.control_plane.models import PAGE_LIMIT, AuthorizeRequest, CreateRequest, RevokeRequest, SessionPage
from relayd.control_plane.render import session_fields
from relayd.control_plane.service import ControlPlane

DEFAULT_LIMIT = 50
_SESSION_ID = re.compile(r"[0-9a-f]{12}-S")


def create_app(control_plane: ControlPlane, authenticator: Authenticator) -> FastAPI:
    """The app. It neither starts nor stops the control plane."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    openapi = document()
    page = docs_page(openapi)
    add_error_handlers(app)
    _add_session_routes(app, control_plane, authenticator)
    node = [needs(authenticator, Scope.NODES_WRITE)]
    add_node_routes(app, control_plane, node)
    add_usage_routes(app, control_plane, [needs(authenticator, Scope.SESSIONS_READ)], node)

    @app.get("/openapi.json")
    async def openapi_json() -> Response:
        return JSONResponse(openapi)

    @app.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page)

    return app


def _add_session_routes(app: FastAPI, control_plane: ControlPlane, authenticator: Authenticator) -> None:
    read = [needs(authenticator, Scope.SESSIONS_READ)]
    write = [needs(authenticator, Scope.SESSIONS_WRITE)]

    @app.post("/v1/relays/sessions", dependencies=write)
    async def create(request: Request) -> Response:
        wanted = await body_of(request, CreateRequest)
        return JSONResponse(session_fields(await control_plane.create(wanted)))

    @app.get("/v1/relays/sessions", dependencies=read)
    async def list_sessions(request: Request) -> Response:
        page = whole_number(request, "page", 1, 1, 2**31)
        limit = whole_number(request, "limit", DEFAULT_LIMIT, 1, PAGE_LIMIT)
        return JSONResponse(_list_fields(await control_plane.list(page, limit)))

    @app.get("/v1/relays/sessions/{session_id}", dependencies=read)
    async def get(session_id: str) -> Response:
        return JSONResponse(session_fields(await control_plane.get(session_id)))

    @app.delete("/v1/relays/sessions/{session_id}", dependencies=write)
    async def delete(session_id: str) -> Response:
        await control_plane.delete(session_id)
        return Response(status_code=204)

    @app.post("/v1/relays/sessions:authorize-user", dependencies=write)
    async def authorize(request: Request) -> Response:
        wanted = await body_of(request, AuthorizeRequest)
        if not _SESSION_ID.fullmatch(wanted.session_id):
            # The contract has no 404 here. What cannot be an id is a bad request; an id that is gone is a 404, as
            # everywhere else.
            raise InvalidRequestError("session_id: is no session id; they look like 0724828881e2-S.")
        authorized = await control_plane.authorize(wanted.session_id, wanted.user_ip)
        fields = session_fields(authorized.changed.session)
        del fields["session_users"]
        return JSONResponse(fields | {"session_user": authorized.user.model_dump(mode="json", exclude_none=True)})

    @app.post("/v1/relays/sessions:revoke-user", dependencies=write)
    async def revoke(request: Request) -> Response:
        wanted = await body_of(request, RevokeRequest)
        return JSONResponse(session_fields(await control_plane.revoke(wanted.session_id, wanted.authorization_token)))


def _list_fields(page: SessionPage) -> dict[str, Any]:
    """The public list. A page beyond the last has none after it, and the last one before it."""
    has_next, has_previous = page.page < page.pages, page.page > 1
    return {
        "sessions": [session_fields(session) for session in page.sessions],
        "total_count": page.total,
        "pagination": {
            "number": page.page,
            "next_page_number": page.page + 1 if has_next else None,
            "previous_page_number": min(page.page - 1, page.pages) if has_previous else None,
            "paginator": {"num_pages": page.pages},
            "has_next": has_next,
            "has_previous": has_previous,
        },
    }
