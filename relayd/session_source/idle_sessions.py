"""Sessions that the relay ended because nobody was there: their source has to know."""

from relayd.core.events import Event, EventKind
from relayd.session_source import Source


class IdleSessions:
    """Follows a table, and tells a source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        if event.kind is EventKind.SESSION_IDLE:
            self._source.session_ended(event.session.session_id)
