"""What may be found when somebody asks why: the closed list of causes, each with a code that does not change."""

import enum
from typing import NamedTuple


class Cause(enum.StrEnum):
    """The codes; docs/troubleshooting.md says of each what it means."""

    SOURCE_STALE = "source_stale"
    NO_SESSIONS_YET = "no_sessions_yet"
    SESSION_TOKEN_UNKNOWN = "session_token_unknown"  # noqa: S105 - a code
    USER_TOKEN_UNKNOWN = "user_token_unknown"  # noqa: S105
    TOKENS_SWAPPED = "tokens_swapped"
    SESSION_ENDED = "session_ended"
    USER_REVOKED = "user_revoked"
    HOST_ON_CLIENT_PORT = "host_on_client_port"
    PLAYER_ON_SERVER_PORT = "player_on_server_port"
    HOST_CONFLICT = "host_conflict"
    NO_HOST = "no_host"
    ADDRESS_CONFLICT = "address_conflict"
    ADDRESS_PINNED = "address_pinned"
    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    RATE_LIMITED = "rate_limited"
    BAD_SOURCE = "bad_source"
    TOKENS_GUESSED = "tokens_guessed"
    DRAINING = "draining"
    RELAY_FULL = "relay_full"
    UNKNOWN_CONNECTION = "unknown_connection"
    UNSENT = "unsent"
    LOST_BY_INTERFACE = "lost_by_interface"
    SILENT = "silent"
    NOT_HEARD = "not_heard"
    NOTHING_KNOWN = "nothing_known"
    GETS_THROUGH = "gets_through"


Text = tuple[Cause, str, str]
"""Of a finding: what is so, in code and in words, and what to do about it."""


class Finding(NamedTuple):
    """One thing that was found."""

    cause: Cause
    sentence: str
    """What is so."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""
    last_seconds_ago: float = 0.0
    """When it last showed."""
