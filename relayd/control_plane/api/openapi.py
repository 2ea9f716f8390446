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
from relayd.control_plane.forms import WHOLE_PATTERN

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"


_FORMS: Json = {
    "LeftOut": {"description": "As if the field were not there.", "enum": [None, ""]},
    "WholeNumberAsText": {"description": "Is that number.", "type": "string", "pattern": f"^{WHOLE_PATTERN}$"},
}
"""What `Asked` takes besides."""


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
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    parameter["allowEmptyValue"] = True
            scope = next(one.dependency.scope for one in route.dependencies if isinstance(one.dependency, KeyWith))
            needed = "Any key will do." if scope is None else f"The key needs the scope `{scope}`."
            operation["description"] += f"\n\n{needed}"
            model = _body_of(route)
            if model is not None:
                bodies.append(model)
                reference = {"$ref": _REF.format(model=model.__name__)}
                operation["requestBody"] = {
                    "required": True,
                    "content": {"application/json": {"schema": reference}},
                }
    _, asked = models_json_schema([(model, "validation") for model in bodies], ref_template=_REF)
    _take_what_is_taken(asked["$defs"])
    api["components"]["schemas"] = _plain(asked["$defs"] | schemas | _FORMS)
    _plain(api["paths"])
    return api


def _body_of(route: APIRoute) -> type[BaseModel] | None:
    """What the route depends on as its body."""
    for hint in get_type_hints(route.endpoint, include_extras=True).values():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Depends) and isinstance(mark.dependency, JsonBody):
                return mark.dependency.model
    return None


def _take_what_is_taken(part: Any) -> None:
    """Adds the forms of `Asked` to all fields that are asked for."""
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _take_what_is_taken(one)
    if isinstance(part, dict) and isinstance(part.get("properties"), dict):
        for name, field in part["properties"].items():
            # Where a number has bounds, no pattern can tell: there the type says itself which texts it takes.
            also = (
                ["WholeNumberAsText"]
                if field.get("type") == "integer" and not {"minimum", "maximum"} & field.keys()
                else []
            )
            also += ["LeftOut"] if name not in part.get("required", ()) else []
            about = {key: field.pop(key) for key in ("description", "default") if key in field}
            if also:
                forms = field.get("anyOf") or [dict(field)]
                field.clear()
                field["anyOf"] = [*forms, *({"$ref": _REF.format(model=form)} for form in also)]
            field.update(about)


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
