"""The page of the REST API: every operation and every type, read from the document that the control plane serves."""

import json
from collections.abc import Iterator
from typing import Any

from relayd.control_plane.api.application import document

_INTRODUCTION = """\
# The REST API

What a game's backend asks of the [control plane](control-plane.md). Paths, field names and statuses are those of
Edgegap's distributed relay, so what was written for that works here. A running control plane has the same at `/docs`,
where each request can be tried in the browser, and at `/openapi.json` for tools.

[Usage](usage.md) and the requests of relays are relayd's own: Edgegap's API has no such thing. What is below
`/v1/relays/nodes` is for relays alone, and may change with any version.

- Each request carries a key: `Authorization: token KEY`, or `Bearer KEY`. `relayd control-plane keys add` makes one
  with the scopes it is to have.
- Bodies are JSON, whatever the content type says, of at most 256 KiB. Unknown fields are ignored.
- An optional field may be `null` or `""` as well, which is as if it were left out; a number may be a decimal text;
  and a byte order mark before the body is skipped. That is how real serializers write.
- Errors are `{"message": "…"}`: what is wrong, and the way out.
- A session is created as `Initializing`. Ask for it until it is `Ready`, or have it sent to you by a
  [webhook](control-plane.md#webhooks). Only then it has tokens.

What a running relay tells and does itself is [another API](running.md#admin-http), on its admin port.

This page is written by `docs/generate.py` from the routes in `relayd/control_plane/api` and their models.
"""

_Json = dict[str, Any]


def api_page() -> str:
    """The whole page."""
    return "\n".join(_lines(document())) + "\n"


def _lines(api: _Json) -> Iterator[str]:
    yield _INTRODUCTION
    yield "| request | |"
    yield "|---|---|"
    for path, method, operation in _operations(api):
        yield f"| [`{method} {path}`](#{operation['operationId']}) | {operation['summary']} |"
    for path, method, operation in _operations(api):
        yield from _operation(path, method, operation)
    yield ""
    yield "## Types"
    for name, schema in api["components"]["schemas"].items():
        yield ""
        yield f"### {name}"
        yield ""
        yield from _type(schema)


def _operations(api: _Json) -> Iterator[tuple[str, str, _Json]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _operation(path: str, method: str, operation: _Json) -> Iterator[str]:
    yield ""
    yield f"## {operation['operationId']}"
    yield ""
    yield f"`{method} {path}`"
    yield ""
    yield f"{operation['summary']}. {operation['description']}"
    in_query = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
    if in_query:
        yield ""
        yield "| in the query | | |"
        yield "|---|---|---|"
        for one in in_query:
            default = one["schema"].get("default")
            told = one["description"] + ("" if default is None else f" {default} if not given.")
            yield f"| `{one['name']}` | {_shape(one['schema'])} | {told} |"
    if "requestBody" in operation:
        yield ""
        yield f"Body: {_shape(_schema_of(operation['requestBody']))}."
    yield ""
    yield "Answers: " + "; ".join(_answers(operation["responses"])) + "."


def _answers(responses: _Json) -> Iterator[str]:
    """What each success carries, then all errors at once."""
    errors = []
    for status, answer in sorted(responses.items()):
        if status >= "400":
            errors.append(f"{status} {answer['description']}")
        elif "content" in answer:
            yield f"{status} with {_shape(_schema_of(answer))}"
        else:
            yield f"{status} {answer['description']}"
    yield f"with [Error](#error) {', '.join(errors)}"


def _type(schema: _Json) -> Iterator[str]:
    yield schema["description"]
    if "enum" in schema:
        yield ""
        yield f"{_shape(schema)}."
    # Of several forms of an object the first; the description names the others.
    objects = [one for one in (schema, *schema.get("anyOf", ())) if "properties" in one]
    if objects:
        yield ""
        yield from _fields(objects[0])


def _fields(schema: _Json) -> Iterator[str]:
    yield "| field | | |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        optional = "" if name in schema["required"] else ", optional"
        yield f"| `{name}` | {_shape(field)}{optional} | {field.get('description', '')} |"


def _schema_of(part: _Json) -> _Json:
    schema: _Json = part["content"]["application/json"]["schema"]
    return schema


def _shape(schema: _Json) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_shape(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        bounds = _bounds(schema, "minItems", "maxItems").strip()
        return f"list{f' ({bounds})' if bounds else ''} of {_shape(schema['items'])}"
    if schema["type"] == "object":
        return f"object of {_shape(schema['additionalProperties'])}"
    if schema.get("format") in ("ipv4", "ipv6"):
        return {"ipv4": "IPv4", "ipv6": "IPv6"}[schema["format"]] + " address"
    if schema["type"] == "string":
        length = _bounds(schema, "minLength", "maxLength")
        return f"string of {length}characters" if length else "string"
    return f"{schema['type']} {_bounds(schema, 'minimum', 'maximum')}".strip()


def _bounds(schema: _Json, least: str, most: str) -> str:
    """As words with a space behind them, or nothing."""
    low, high = (int(schema[name]) if name in schema else None for name in (least, most))
    if low is not None and high is not None:
        return f"{low} to {high} "
    return f"at most {high} " if high is not None else f"from {low} " if low is not None else ""
