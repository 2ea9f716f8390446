"""The served /openapi.json: the public contract, with what it leaves open spelled out.

Paths, field names and statuses are the contract's. Added are: what `users` and `filters` look like, `page` and `limit`,
that a session's `relay` and `authorization_token` are null while it initializes, 404 of authorize-user, and the
statuses every operation shares (400, 413, 500, 503).
"""

from typing import Any

from relayd import __version__
from relayd.controlplane.models import PAGE_LIMIT, WEBHOOK_URL_PATTERN

Json = dict[str, Any]

_STATUSES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "relayd control plane",
            "version": __version__,
            "description": "Relay sessions: create one, wait until it is ready, hand its tokens to host and players.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": "Relays"}],
        "security": [{"apiKey": []}],
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token KEY` or `Bearer KEY`. Make one with `relayd control-plane keys add`.",
                }
            },
            "schemas": {
                "RelaySession": _object({**_session_head(), **_session_users(), **_session_tail()}, _SESSION_REQUIRED),
                "AuthorizedUser": _object(
                    {
                        **_session_head(),
                        "session_user": {"description": "The user let in", "allOf": [_ref("SessionUser")]},
                        **_session_tail(),
                    },
                    _SESSION_REQUIRED,
                ),
                "SessionUser": _session_user(),
                "Relay": _relay(),
                "NewUser": _new_user(),
                "Filter": _filter(),
                "SessionList": _session_list(),
                "Error": _object({"message": _text("What is wrong, and the way out")}, ["message"]),
            },
        },
        "paths": {
            "/v1/relays/sessions": {"post": _create(), "get": _list()},
            "/v1/relays/sessions/{session_id}": {"get": _get(), "delete": _delete()},
            "/v1/relays/sessions:authorize-user": {"post": _authorize()},
            "/v1/relays/sessions:revoke-user": {"post": _revoke()},
        },
    }


_SESSION_REQUIRED = ["linked", "ready", "session_id", "status"]
_ADDRESS: Json = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
_LATITUDE: Json = {"type": "number", "minimum": -90, "maximum": 90, "nullable": True}
_LONGITUDE: Json = {"type": "number", "minimum": -180, "maximum": 180, "nullable": True}
_TOKEN: Json = {"type": "integer", "minimum": 1, "maximum": 0xFFFF_FFFF}


def _create() -> Json:
    body = _object(
        {
            "users": {
                "type": "array",
                "description": "Users of the session, the host first; a bare address is a user too",
                "minItems": 1,
                "maxItems": 1000,
                "items": _ref("NewUser"),
            },
            "filters": {
                "type": "array",
                "description": "Conditions on the location of the relay; all must hold",
                "maxItems": 100,
                "items": _ref("Filter"),
            },
            "webhook_url": {
                "type": "string",
                "description": "Called with the session once it is ready; the host may be a literal IP address too",
                "pattern": WEBHOOK_URL_PATTERN,
            },
        },
        ["users"],
    )
    return _operation(
        "relay-session-create",
        "Create a Relay Session",
        "Places a session on a relay. It is Ready as soon as the relay has it, or has status Error at once.",
        _ref("RelaySession"),
        (400, 401, 403, 413, 500, 503),
        body=body,
    )


def _list() -> Json:
    return _operation(
        "relay-session-list",
        "List all Relay Sessions",
        "All sessions, oldest first, in pages.",
        _ref("SessionList"),
        (400, 401, 403, 500, 503),
        parameters=[
            _query("page", "Page, from 1", {"type": "integer", "minimum": 1, "maximum": 2**31, "default": 1}),
            _query("limit", "Sessions a page", {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT, "default": 50}),
        ],
    )


def _get() -> Json:
    return _operation(
        "relay-session-get",
        "Get a Relay Session",
        "One session.",
        _ref("RelaySession"),
        (401, 403, 404, 500, 503),
        parameters=[_SESSION_ID],
    )


def _delete() -> Json:
    operation = _operation(
        "relay-session-delete",
        "Delete a Relay Session",
        "Ends the session; its relay forwards nothing of it from its next look at the control plane on.",
        None,
        (401, 403, 404, 500, 503),
        parameters=[_SESSION_ID],
    )
    operation["responses"]["204"] = {"description": "No Content"}
    return operation


def _authorize() -> Json:
    body = _object(
        {
            "session_id": {**_text("Session ID, such as 0724828881e2-S"), "pattern": "^[0-9a-f]{12}-S$"},
            "user_ip": {**_ADDRESS, "description": "Address of the user to let in"},
        },
        ["session_id", "user_ip"],
    )
    return _operation(
        "relay-user-authorize",
        "Authorize a user on a Relay Session",
        "Lets one more user in. 409 when that address is in already, or the session failed.",
        _ref("AuthorizedUser"),
        (400, 401, 403, 404, 409, 413, 500, 503),
        body=body,
    )


def _revoke() -> Json:
    body = _object(
        {
            "session_id": _text("Session ID, such as 0724828881e2-S"),
            "authorization_token": {"type": "integer", "description": "Token of the user to take out"},
        },
        ["authorization_token", "session_id"],
    )
    operation = _operation(
        "relay-user-revoke",
        "Remove a user on a Relay Session",
        "Takes a user out; answers the session without it.",
        _ref("RelaySession"),
        (400, 401, 403, 404, 413, 500, 503),
        body=body,
    )
    operation["responses"]["204"] = {"description": "No Content: part of the contract; this server answers 200"}
    return operation


def _session_head() -> Json:
    return {
        "session_id": _text("The session ID"),
        "authorization_token": {
            **_TOKEN,
            "nullable": True,
            "description": "The authorization token for the session; null while it initializes",
        },
        "status": {**_text("The status of the session"), "enum": ["Initializing", "Ready", "Error"]},
        "ready": {"type": "boolean", "description": "If the session is ready to be used"},
        "linked": {"type": "boolean", "description": "If the session is linked to a relay"},
        "error": _text("Why the session failed"),
    }


def _session_users() -> Json:
    return {
        "session_users": {
            "type": "array",
            "description": "The users, the host first; none while the session initializes",
            "items": _ref("SessionUser"),
        }
    }


def _session_tail() -> Json:
    return {
        "relay": {
            "description": "The relay the session is linked to; null while it initializes",
            "nullable": True,
            "allOf": [_ref("Relay")],
        },
        "webhook_url": _text("The webhook URL that is called once the session is ready"),
    }


def _session_user() -> Json:
    return _object(
        {
            "ip_address": _text("The IP address of the user"),
            "latitude": {"type": "number", "description": "The latitude of the user"},
            "longitude": {"type": "number", "description": "The longitude of the user"},
            "authorization_token": {**_TOKEN, "description": "The authorization token of the user"},
        },
        ["ip_address", "authorization_token"],
    )


def _relay() -> Json:
    port = _object(
        {
            "port": {"type": "integer", "description": "The port number"},
            "protocol": _text("The protocol of the port"),
            "link": _text("host:port"),
        },
        ["port", "protocol", "link"],
    )
    return {
        **_object(
            {
                "ip": _text("The IP address of the relay"),
                "host": _text("The host name of the relay"),
                "ports": _object({"server": port, "client": port}, ["server", "client"]),
            },
            ["ip", "host", "ports"],
        ),
        # In OpenAPI 3.0 allOf with a schema that refuses null refuses it, whatever stands beside it.
        "nullable": True,
    }


def _new_user() -> Json:
    where = {"latitude": _LATITUDE, "longitude": _LONGITUDE}
    return {
        "anyOf": [
            *_ADDRESS["anyOf"],
            _object({"ip": _ADDRESS, **where}, ["ip"]),
            # With both, `ip` counts.
            {**_object({"ip_address": _ADDRESS, **where}, ["ip_address"]), "not": {"required": ["ip"]}},
        ]
    }


def _filter() -> Json:
    return _object(
        {
            "field": {**_text("Attribute: city, country, continent, region …"), "minLength": 1, "maxLength": 64},
            "values": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {"type": "string", "maxLength": 256},
            },
            "filter_type": {
                **_text("any of the values, all of them, or none of them"),
                "enum": ["any", "all", "not"],
            },
        },
        ["field", "values", "filter_type"],
    )


def _session_list() -> Json:
    number: Json = {"type": "integer", "minimum": 1, "nullable": True}
    pagination = _object(
        {
            "number": {"type": "integer", "minimum": 0},
            "next_page_number": number,
            "previous_page_number": number,
            "paginator": _object({"num_pages": {"type": "integer", "minimum": 1}}, ["num_pages"]),
            "has_next": {"type": "boolean"},
            "has_previous": {"type": "boolean"},
        },
        ["number", "next_page_number", "previous_page_number", "paginator", "has_next", "has_previous"],
    )
    return _object(
        {
            "sessions": {"type": "array", "items": _ref("RelaySession")},
            "total_count": {"type": "integer", "minimum": 0},
            "pagination": pagination,
        },
        ["sessions", "total_count", "pagination"],
    )


_SESSION_ID: Json = {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}


def _operation(
    name: str,
    summary: str,
    description: str,
    answer: Json | None,
    statuses: tuple[int, ...],
    *,
    body: Json | None = None,
    parameters: list[Json] | None = None,
) -> Json:
    responses: Json = {}
    if answer is not None:
        responses["200"] = {"description": "Success", "content": _json(answer)}
    for status in statuses:
        responses[str(status)] = {"description": _STATUSES[status], "content": _json(_ref("Error"))}
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "description": description,
        "tags": ["Relays"],
        "parameters": parameters or [],
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _object(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}
