"""The page of the REST API: every operation and every type, read from the document that the control plane serves."""

from collections.abc import Iterator
from typing import Any

from relayd.control_plane.api.openapi import document

_INTRODUCTION = """\
# The REST API

What a game's backend asks of the [control plane](control-plane.md). Paths, field names and statuses are those of
Edgegap's distributed relay, so what was written for that works here. A running control plane shows this page's content
at `/docs`, and at `/openapi.json` for tools.

- Each request carries a key: `Authorization: token KEY`, or `Bearer KEY`. `relayd control-plane keys add` makes one.
  GET needs the scope `sessions:read`, all else here `sessions:write`; relays need `nodes:write`.
- Bodies are JSON, whatever the content type says, of at most 256 KiB. Unknown fields are ignored.
- Errors are `{"message": "…"}`: what is wrong, and the way out.
- A session is created as `Initializing`. Ask for it until it is `Ready`, or have it sent to you by a
  [webhook](control-plane.md#webhooks). Only then it has tokens.

What a running relay tells and does itself is [another API](running.md#admin-http), on its admin port.

This page is written by `docs/generate.py` from `relayd/control_plane/api/openapi.py`.
"""

_RELAYS = """
## Usage

- `GET /v1/relays/usage`, of scope `sessions:read`: what each session used, also those that are gone.
  [Usage records](usage.md#sums-from-the-control-plane) has its parameters and an answer. It is relayd's own: Edgegap's
  API has no such thing.

## Between relay and control plane

Three more requests, of scope `nodes:write`; relayd itself is their only user, and they may change with any version.

- `PUT /v1/relays/nodes/{name}`: a relay's heartbeat. It says where the relay is reached, its attributes and
  coordinates, its capacity and load, whether it drains, the revision it has applied, and which sessions ended there.
  The answer names the newest revision of its sessions; `wait` holds it back, for up to 30 s, until there is something
  new.
- `GET /v1/relays/nodes/{name}/sessions`: its sessions, in pages. With `epoch` and `since` only what changed after that
  revision. Answers 304 to an `If-None-Match` that still holds.
- `POST /v1/relays/nodes/{name}/usage`: up to 1,000 [usage records](usage.md), as they stand in the file, and their
  stream. 204 once no crash loses them; the same may come again.
"""

_Json = dict[str, Any]


def api_page() -> str:
    """The whole page."""
    return "\n".join(_lines(document())) + "\n" + _RELAYS


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
    in_query = [one for one in operation["parameters"] if one["in"] == "query"]
    if in_query:
        yield ""
        yield "| in the query | | |"
        yield "|---|---|---|"
        for one in in_query:
            default = f"; {one['schema']['default']} if not given"
            yield f"| `{one['name']}` | {_shape(one['schema'])} | {one['description']}{default} |"
    if "requestBody" in operation:
        yield ""
        yield from _fields(_schema_of(operation["requestBody"]), "in the body")
    yield ""
    yield "Answers: " + "; ".join(_answers(operation["responses"])) + "."


def _answers(responses: _Json) -> Iterator[str]:
    """What each success carries, then all errors at once."""
    errors = []
    for status, answer in sorted(responses.items()):
        if status >= "400":
            errors.append(f"{status} {answer['description']}")
        elif "content" in answer:
            yield f"{status} with a {_shape(_schema_of(answer))}"
        else:
            yield f"{status} {answer['description']}"
    yield f"with an [Error](#error) {', '.join(errors)}"


def _type(schema: _Json) -> Iterator[str]:
    if "anyOf" in schema:
        *plain, first = (one for one in schema["anyOf"] if "not" not in one)
        yield f"{_shape({'anyOf': plain})}, or an object; the address may be called `ip_address` too."
        yield ""
        schema = first
    yield from _fields(schema, "field")


def _fields(schema: _Json, heading: str) -> Iterator[str]:
    yield f"| {heading} | | |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        optional = "" if name in schema["required"] else ", optional"
        told = field.get("description", "")
        yield f"| `{name}` | {_shape(field)}{optional} | {told[:1].upper()}{told[1:]} |"


def _schema_of(part: _Json) -> _Json:
    schema: _Json = part["content"]["application/json"]["schema"]
    return schema


def _shape(schema: _Json) -> str:
    """A type in a few words."""
    return _named_or_plain(schema) + (" or null" if schema.get("nullable") else "")


def _named_or_plain(schema: _Json) -> str:
    reference = schema.get("$ref") or next((one["$ref"] for one in schema.get("allOf", ())), None)
    if reference:
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_shape(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'`"{value}"`' for value in schema["enum"])
    if schema["type"] == "array":
        bounds = _bounds(schema, "minItems", "maxItems").strip()
        return f"list{f' ({bounds})' if bounds else ''} of {_shape(schema['items'])}"
    if schema["type"] == "object":
        return "{" + ", ".join(f"`{name}`: {_shape(one)}" for name, one in schema["properties"].items()) + "}"
    if schema.get("format") in ("ipv4", "ipv6"):
        return {"ipv4": "IPv4", "ipv6": "IPv6"}[schema["format"]] + " address"
    if schema["type"] == "string":
        length = _bounds(schema, "minLength", "maxLength")
        return f"string of {length}characters" if length else "string"
    return f"{schema['type']} {_bounds(schema, 'minimum', 'maximum')}".strip()


def _bounds(schema: _Json, least: str, most: str) -> str:
    """As words with a space behind them, or nothing."""
    if least in schema and most in schema:
        return f"{schema[least]} to {schema[most]} "
    return f"at most {schema[most]} " if most in schema else f"from {schema[least]} " if least in schema else ""
