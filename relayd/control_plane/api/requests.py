"""Requests in, answers out: bodies with a bound, JSON of any kind, errors in the contract's form."""

from typing import Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from relayd.control_plane import errors
from relayd.control_plane.api.auth import Authenticator
from relayd.control_plane.keys import Scope

log = structlog.get_logger()

BODY_LIMIT = 256 << 10
"""Bytes of a request body."""
_LAST_SECOND = 2.0**40

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

Model = TypeVar("Model", bound=BaseModel)


async def body_of(request: Request, model: type[Model], limit: int = BODY_LIMIT) -> Model:
    """The request's JSON body, validated. Its declared content type is ignored: curl -d declares a form by default.

    Raises:
        TooLargeError: it is longer than `limit` bytes.
        InvalidRequestError: it is no JSON, or not of that form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise errors.TooLargeError(f"The body is longer than {limit} bytes; send less at a time.")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise errors.InvalidRequestError(explain(error)) from None


def whole_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number from the query.

    Raises:
        InvalidRequestError: it is none, or out of range.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    # isdecimal alone takes the digits of every script; 20 of them are more than any bound needs.
    if not (text.isascii() and text.isdecimal() and len(text) <= 20 and least <= int(text) <= most):
        raise errors.InvalidRequestError(f"{name}: must be a whole number from {least} to {most}.")
    return int(text)


def unix_time(request: Request, name: str) -> float | None:
    """A point in time from the query, in seconds; None where it is not given.

    Raises:
        InvalidRequestError: it is none.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LAST_SECOND:
        raise errors.InvalidRequestError(f"{name}: must be a Unix time in seconds.")
    return seconds


def needs(authenticator: Authenticator, scope: Scope) -> Any:
    """A route's condition: a key with that scope, checked before anything else of the request is looked at."""

    async def check(request: Request) -> None:
        await authenticator.require(request.headers.get("authorization"), scope)

    return Depends(check)


def explain(error: ValidationError) -> str:
    """The first mistake in one sentence: where it stands and what is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "The body"
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what[:1].lower()}{what[1:]}."


def message(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the contract's form."""
    return JSONResponse({"message": text}, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Gives every error of the app the contract's form."""

    async def ours(_: Request, error: Exception) -> Response:
        status = _STATUS[type(error)]  # type: ignore[index]  # registered for these classes alone
        headers = {401: {"WWW-Authenticate": "token"}, 503: {"Retry-After": "1"}}.get(status)
        return message(status, str(error), headers)

    async def framework(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return message(404, "There is nothing at this path; /docs lists what there is.")
        if status == 405:
            allowed = _allowed_methods(request)
            return message(405, f"This path takes {allowed} only.", {"Allow": allowed})
        return message(status, str(getattr(error, "detail", "The request cannot be served.")))

    async def left(_: Request, __: Exception) -> Response:
        return message(400, "The body ended too early.")  # nobody is there to read it

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request failed", method=request.method, path=request.scope["path"], exc_info=error)
        return message(500, "The control plane failed on this request; its log says why.")

    for kind in _STATUS:
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, unexpected)


def _allowed_methods(request: Request) -> str:
    """All methods of the path; Starlette names those of the first route only."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))
