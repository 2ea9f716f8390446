"""The served /openapi.json: the public contract, with what it leaves open spelled out.

Paths, field names and statuses are the contract's. Added are: what `users` and `filters` look like, `page` and `limit`,
that a session's `relay` and `authorization_token` are null while it initializes, 404 of authorize-user, and the
statuses every operation shares (400, 413, 500, 503).
"""

from relayd import __version__
from relayd.control_plane.api.openapi_schemas import ADDRESS, Json, object_of, ref, schemas, text
from relayd.control_plane.models import PAGE_LIMIT, WEBHOOK_URL_PATTERN

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
            "schemas": schemas(),
        },
        "paths": {
            "/v1/relays/sessions": {"post": _create(), "get": _list()},
            "/v1/relays/sessions/{session_id}": {"get": _get(), "delete": _delete()},
            "/v1/relays/sessions:authorize-user": {"post": _authorize()},
            "/v1/relays/sessions:revoke-user": {"post": _revoke()},
        },
    }


def _create() -> Json:
    body = object_of(
        {
            "users": {
                "type": "array",
                "description": "Users of the session, the host first; a bare address is a user too",
                "minItems": 1,
                "maxItems": 1000,
                "items": ref("NewUser"),
            },
            "filters": {
                "type": "array",
                "description": "Conditions on the location of the relay; all must hold",
                "maxItems": 100,
                "items": ref("Filter"),
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
        "Places a session on a relay. It is Ready as soon as the relay has it. It has status Error at once when no"
        " relay can take it, and within a minute when its relay fell silent before it had it: create another one then.",
        ref("RelaySession"),
        (400, 401, 403, 413, 500, 503),
        body=body,
    )


def _list() -> Json:
    return _operation(
        "relay-session-list",
        "List all Relay Sessions",
        "All sessions, oldest first, in pages.",
        ref("SessionList"),
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
        ref("RelaySession"),
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
    body = object_of(
        {
            "session_id": {**text("Session ID, such as 0724828881e2-S"), "pattern": "^[0-9a-f]{12}-S$"},
            "user_ip": {**ADDRESS, "description": "Address of the user to let in"},
        },
        ["session_id", "user_ip"],
    )
    return _operation(
        "relay-user-authorize",
        "Authorize a user on a Relay Session",
        "Lets one more user in. 409 when that address is in already, or the session failed.",
        ref("AuthorizedUser"),
        (400, 401, 403, 404, 409, 413, 500, 503),
        body=body,
    )


def _revoke() -> Json:
    body = object_of(
        {
            "session_id": text("Session ID, such as 0724828881e2-S"),
            "authorization_token": {"type": "integer", "description": "Token of the user to take out"},
        },
        ["authorization_token", "session_id"],
    )
    operation = _operation(
        "relay-user-revoke",
        "Remove a user on a Relay Session",
        "Takes a user out; answers the session without it.",
        ref("RelaySession"),
        (400, 401, 403, 404, 413, 500, 503),
        body=body,
    )
    operation["responses"]["204"] = {"description": "No Content: part of the contract; this server answers 200"}
    return operation


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
        responses[str(status)] = {"description": _STATUSES[status], "content": _json(ref("Error"))}
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


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}
