"""The served /openapi.json, made from routes and models.

Paths, field names and statuses of the sessions are the public contract's. What that leaves open is spelled out by the
models: what `users` and `filters` look like, that a session's `relay` and `authorization_token` are null while it
initializes, 404 of authorize-user, and the statuses every operation shares.
"""

from collections.abc import Sequence
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.params import Depends
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from relayd.control_plane.api.requests import JsonBody, KeyWith

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"


def describe(app: FastAPI, routers: Sequence[APIRouter]) -> Json:
    """The document of an app that these routers are in."""
    api = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas: Json = api["components"]["schemas"]
    # FastAPI's own answer to what is invalid, which is a 400 in the contract's form here.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    bodies: list[type[BaseModel]] = []
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        for method in route.methods or ():
            operation = api["paths"][route.path][method.lower()]
            operation["responses"].pop("422", None)
            scope = next(one.dependency.scope for one in route.dependencies if isinstance(one.dependency, KeyWith))
            operation["description"] += f"\n\nThe key needs the scope `{scope}`."
            model = _body_of(route)
            if model is not None:
                bodies.append(model)
                reference = {"$ref": _REF.format(model=model.__name__)}
                operation["requestBody"] = {
                    "required": True,
                    "content": {"application/json": {"schema": reference}},
                }
    _, asked = models_json_schema([(model, "validation") for model in bodies], ref_template=_REF)
    api["components"]["schemas"] = _plain(asked["$defs"] | schemas)
    _plain(api["paths"])
    return api


def _body_of(route: APIRoute) -> type[BaseModel] | None:
    """What the route depends on as its body."""
    for hint in get_type_hints(route.endpoint, include_extras=True).values():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Depends) and isinstance(mark.dependency, JsonBody):
                return mark.dependency.model
    return None


def _plain(part: Any) -> Any:
    """Without titles, which are the names again, and without null as a default, which is: left out."""
    if isinstance(part, list):
        for one in part:
            _plain(one)
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        if part.get("default", part) is None:
            del part["default"]
        for one in part.values():
            _plain(one)
    return part
