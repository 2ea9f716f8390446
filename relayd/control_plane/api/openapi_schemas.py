"""The types of the served /openapi.json."""

from typing import Any

Json = dict[str, Any]

_SESSION_REQUIRED = ["linked", "ready", "session_id", "status"]
ADDRESS: Json = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
_LATITUDE: Json = {"type": "number", "minimum": -90, "maximum": 90, "nullable": True}
_LONGITUDE: Json = {"type": "number", "minimum": -180, "maximum": 180, "nullable": True}
_TOKEN: Json = {"type": "integer", "minimum": 1, "maximum": 0xFFFF_FFFF}


def schemas() -> Json:
    """All named types."""
    return {
        "RelaySession": object_of({**_session_head(), **_session_users(), **_session_tail()}, _SESSION_REQUIRED),
        "AuthorizedUser": object_of(
            {
                **_session_head(),
                "session_user": {"description": "The user let in", "allOf": [ref("SessionUser")]},
                **_session_tail(),
            },
            _SESSION_REQUIRED,
        ),
        "SessionUser": _session_user(),
        "Relay": _relay(),
        "NewUser": _new_user(),
        "Filter": _filter(),
        "SessionList": _session_list(),
        "Error": object_of({"message": text("What is wrong, and the way out")}, ["message"]),
    }


def _session_head() -> Json:
    return {
        "session_id": text("The session ID"),
        "authorization_token": {
            **_TOKEN,
            "nullable": True,
            "description": "The authorization token for the session; null while it initializes",
        },
        "status": {**text("The status of the session"), "enum": ["Initializing", "Ready", "Error"]},
        "ready": {"type": "boolean", "description": "If the session is ready to be used"},
        "linked": {"type": "boolean", "description": "If the session is linked to a relay"},
        "error": text("Why the session failed"),
    }


def _session_users() -> Json:
    return {
        "session_users": {
            "type": "array",
            "description": "The users, the host first; none while the session initializes",
            "items": ref("SessionUser"),
        }
    }


def _session_tail() -> Json:
    return {
        "relay": {
            "description": "The relay the session is linked to; null while it initializes",
            "nullable": True,
            "allOf": [ref("Relay")],
        },
        "webhook_url": text("The webhook URL that is called once the session is ready"),
    }


def _session_user() -> Json:
    return object_of(
        {
            "ip_address": text("The IP address of the user"),
            "latitude": {"type": "number", "description": "The latitude of the user"},
            "longitude": {"type": "number", "description": "The longitude of the user"},
            "authorization_token": {**_TOKEN, "description": "The authorization token of the user"},
        },
        ["ip_address", "authorization_token"],
    )


def _relay() -> Json:
    port = object_of(
        {
            "port": {"type": "integer", "description": "The port number"},
            "protocol": text("The protocol of the port"),
            "link": text("host:port"),
        },
        ["port", "protocol", "link"],
    )
    return {
        **object_of(
            {
                "ip": text("The IP address of the relay"),
                "host": text("The host name of the relay"),
                "ports": object_of({"server": port, "client": port}, ["server", "client"]),
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
            *ADDRESS["anyOf"],
            object_of({"ip": ADDRESS, **where}, ["ip"]),
            # With both, `ip` counts.
            {**object_of({"ip_address": ADDRESS, **where}, ["ip_address"]), "not": {"required": ["ip"]}},
        ]
    }


def _filter() -> Json:
    return object_of(
        {
            "field": {**text("Attribute: city, country, continent, region …"), "minLength": 1, "maxLength": 64},
            "values": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {"type": "string", "maxLength": 256},
            },
            "filter_type": {
                **text("any of the values, all of them, or none of them"),
                "enum": ["any", "all", "not"],
            },
        },
        ["field", "values", "filter_type"],
    )


def _session_list() -> Json:
    number: Json = {"type": "integer", "minimum": 1, "nullable": True}
    pagination = object_of(
        {
            "number": {"type": "integer", "minimum": 0},
            "next_page_number": number,
            "previous_page_number": number,
            "paginator": object_of({"num_pages": {"type": "integer", "minimum": 1}}, ["num_pages"]),
            "has_next": {"type": "boolean"},
            "has_previous": {"type": "boolean"},
        },
        ["number", "next_page_number", "previous_page_number", "paginator", "has_next", "has_previous"],
    )
    return object_of(
        {
            "sessions": {"type": "array", "items": ref("RelaySession")},
            "total_count": {"type": "integer", "minimum": 0},
            "pagination": pagination,
        },
        ["sessions", "total_count", "pagination"],
    )


def object_of(properties: Json, required: list[str]) -> Json:
    """An object; further keys are ignored."""
    return {"type": "object", "properties": properties, "required": required}


def ref(name: str) -> Json:
    """One of the named types."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(description: str) -> Json:
    """A string."""
    return {"type": "string", "description": description}
