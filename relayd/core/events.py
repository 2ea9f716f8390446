"""What changes in the table, for those who follow it: the log, the metrics, a mirror of the table."""

import enum
from typing import NamedTuple

from relayd.core.session import Binding, Session


class EventKind(enum.Enum):
    """All changes there are; the values name them in logs."""

    SESSION_ADDED = "session added"
    SESSION_REMOVED = "session removed by its source"
    SESSION_IDLE = "session ended, nobody was there"
    USER_BOUND = "user bound"
    USER_MOVED = "user moved to another address"
    USER_RETURNED = "user heard again at the address before, two senders use its token"
    USER_NAMED = "user authorized with another address"
    USER_SILENT = "user unbound, silent for too long"
    USER_DISPLACED = "user unbound, not heard where another user came to"
    USER_REVOKED = "user unbound, no longer in the session"
    USER_AT_RELAY = "user unbound, a relay of the fleet is at its address and port"
    HOST_REPLACED = "host unbound, another user took over"
    CONNECTION_RENEWED = "player began a new connection"
    CONNECTION_KEPT = "player goes on with its connection"
    WATCH_BEGAN = "session captured, not forwarded by the fast path"
    WATCH_ENDED = "session no longer captured"

    __hash__ = object.__hash__
    """Members are singletons. Enum's own hash is Python code, and would be called for every change that is noted."""


UNBOUND = (
    EventKind.USER_SILENT,
    EventKind.USER_DISPLACED,
    EventKind.USER_REVOKED,
    EventKind.USER_AT_RELAY,
    EventKind.HOST_REPLACED,
)
"""After these the binding is no more."""


class Event(NamedTuple):
    """One change, told after it was made."""

    kind: EventKind
    session: Session
    binding: Binding | None = None
    """The binding it is about; for those that end, as it last was."""
