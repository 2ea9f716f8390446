"""What is answered: errors in the contract's form, with the statuses that the document tells."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match

from relayd.control_plane import errors
from relayd.control_plane.api.requests import sentence
from relayd.control_plane.models import Error

log = structlog.get_logger()

_STATUS: dict[type[errors.ControlPlaneError], int] = {
    errors.InvalidRequestError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.NodeTakenError: 409,
    errors.TooLargeError: 413,
    errors.StoreUnavailableError: 503,
}


_NAMES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""As RFC 9110 has them; Python's differ from version to version."""


def fails_with(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route may fail, for the document: with these, and as every route that needs a key and the store."""
    return {
        status: {"model": Error, "description": _NAMES[status]} for status in sorted({*statuses, 401, 403, 500, 503})
    }


def message(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the contract's form."""
    return JSONResponse(Error(message=text).model_dump(), status, headers)


def add_error_handlers(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Gives every error of the app, and of the routers in it, the contract's form."""
    # FastAPI may keep the routes of a router to itself.
    routes = [route for router in routers for route in router.routes]

    async def ours(_: Request, error: Exception) -> Response:
        status = _STATUS[type(error)]  # type: ignore[index]  # registered for these classes alone
        headers = {401: {"WWW-Authenticate": "token"}, 503: {"Retry-After": "1"}}.get(status)
        return message(status, str(error), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0]  # type: ignore[attr-defined]  # a RequestValidationError
        return message(400, sentence(first["loc"][1:], first["msg"]))  # the first part is `query` or `path`

    async def framework(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return message(404, "There is nothing at this path; /docs lists what there is.")
        if status == 405:
            allowed = _allowed_methods(request, [*routes, *app.routes])
            return message(405, f"This path takes {allowed} only.", {"Allow": allowed})
        return message(status, str(getattr(error, "detail", "The request cannot be served.")))

    async def left(_: Request, __: Exception) -> Response:
        return message(400, "The body ended too early.")  # nobody is there to read it

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request failed", method=request.method, path=request.scope["path"], exc_info=error)
        return message(500, "The control plane failed on this request; its log says why.")

    for kind in _STATUS:
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, unexpected)


def _allowed_methods(request: Request, routes: Sequence[BaseRoute]) -> str:
    """All methods of the path; Starlette names those of the first route only."""
    methods: set[str] = set()
    for route in routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))
