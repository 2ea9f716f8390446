"""A session in JSON, the one way the API, webhooks and relays see it."""

import json
from typing import Any

from relayd.core.relay_session import RelaySession, SessionState


def session_fields(session: SessionState) -> dict[str, Any]:
    """The session's fields for JSON.

    The contract has no nullable field, so what a session lacks is left out; only while it initializes do `relay` and
    `authorization_token` stand there as null, as clients of the public API know it.
    """
    fields = session.model_dump(mode="json", exclude_none=True)
    if session.status == "Initializing":
        return fields | {"authorization_token": session.authorization_token, "relay": None}
    return fields


def session_json(session: RelaySession) -> str:
    """The same as text."""
    return json.dumps(session_fields(session), separators=(",", ":"))
