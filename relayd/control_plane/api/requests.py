"""What routes ask of a request: a key, a body within bounds, whole numbers; and the control plane to hand it to."""

from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, BeforeValidator, ValidationError

from relayd.control_plane import errors
from relayd.control_plane.keys import Scope
from relayd.control_plane.service import ControlPlane

BODY_LIMIT = 256 << 10
"""Bytes of a request body."""

Model = TypeVar("Model", bound=BaseModel)


class JsonBody(Generic[Model]):
    """A dependency: the request's JSON body, validated. Its declared content type is ignored: curl -d declares a form.
    A byte order mark, which .NET writes, is skipped.

    FastAPI would read a body whole before anything else is looked at, the key too.

    Args:
        model: what it is validated as; the document describes it.
        limit: bytes, at most.
    """

    def __init__(self, model: type[Model], limit: int = BODY_LIMIT) -> None:
        self.model = model
        self._limit = limit

    async def __call__(self, request: Request) -> Model:
        """Reads it.

        Raises:
            TooLargeError: it is longer than the limit.
            InvalidRequestError: it is no JSON, or not of that form.
        """
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limit:
                raise errors.TooLargeError(f"The body is longer than {self._limit} bytes; send less at a time.")
        try:
            return self.model.model_validate_json(body.removeprefix(BOM_UTF8))
        except ValidationError as error:
            raise errors.InvalidRequestError(explain(error)) from None


def _digits(text: object) -> object:
    # int() takes spaces, underscores and the digits of every script.
    if isinstance(text, str) and not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise ValueError("must be a whole number")
    return text


WHOLE_NUMBER = BeforeValidator(_digits)
"""For an int in a query."""


async def _control_plane(request: Request) -> ControlPlane:
    plane: ControlPlane = request.app.state.control_plane
    return plane


Plane = Annotated[ControlPlane, Depends(_control_plane)]

_key = APIKeyHeader(
    name="Authorization",
    scheme_name="apiKey",
    description="`token KEY` or `Bearer KEY`. Make one with `relayd control-plane keys add`.",
    auto_error=False,
)


class KeyWith:
    """A dependency: a key with that scope; with any, where that is None."""

    def __init__(self, scope: Scope | None) -> None:
        self.scope = scope

    async def __call__(self, request: Request, authorization: Annotated[str | None, Security(_key)]) -> None:
        """Looks at the key.

        Raises:
            UnauthenticatedError, ForbiddenError, StoreUnavailableError: see `Authenticator.require`.
        """
        node_id = request.path_params.get("node_id")
        await request.app.state.authenticator.require(authorization, self.scope, node_id)


def needs(scope: Scope) -> Any:
    """A route's condition: a key with that scope, checked before anything else of the request is looked at."""
    return Depends(KeyWith(scope))


def needs_any_key() -> Any:
    """A route's condition: a key, whatever its scopes, that is bound to no relay."""
    return Depends(KeyWith(None))


def explain(error: ValidationError) -> str:
    """The first mistake in one sentence: where it stands and what is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    return sentence(first["loc"], first["msg"])


def sentence(where: Sequence[object], what: str) -> str:
    """A mistake: the way to it, and what pydantic says of it."""
    what = what.removeprefix("Value error, ")
    return f"{'.'.join(map(str, where)) or 'The body'}: {what[:1].lower()}{what[1:]}."
