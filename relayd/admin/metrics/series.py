"""Which sessions have time series of their own: a bounded number."""

from collections.abc import Iterator

from relayd.core.counters import Traffic
from relayd.core.events import Event, EventKind
from relayd.core.session import Session

OTHER_SESSIONS = "other"
"""The label value under which sessions without series of their own are summed."""


class SessionSeries:
    """Which sessions have time series of their own: the first ``most`` that are alive and were ever bound.

    A session keeps its place until it ends. All others are the difference to the relay's totals, so that no counter
    ever goes back and nothing has to be summed over the whole table.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._own: dict[str, Session] = {}
        self._ended = Traffic()

    def event(self, event: Event) -> None:
        """Follows the table."""
        session = event.session
        if event.kind is EventKind.USER_BOUND:
            if len(self._own) < self._most and session.session_id != OTHER_SESSIONS:
                self._own.setdefault(session.session_id, session)
        elif event.kind in (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE):
            ended = self._own.pop(session.session_id, None)
            if ended is not None:
                self._ended.add(ended.traffic())

    def sessions(self) -> list[Session]:
        """Those with series of their own."""
        return list(self._own.values())

    def read(self, total: Traffic) -> Iterator[tuple[str, Traffic]]:
        """Label and counts of each series, the sum of the others last.

        Args:
            total: what the whole relay forwarded.
        """
        told = Traffic()
        told.add(self._ended)
        for session_id, session in self._own.items():
            traffic = session.traffic()
            told.add(traffic)
            yield session_id, traffic
        other = Traffic()
        other.to_host_datagrams = total.to_host_datagrams - told.to_host_datagrams
        other.to_host_bytes = total.to_host_bytes - told.to_host_bytes
        other.to_player_datagrams = total.to_player_datagrams - told.to_player_datagrams
        other.to_player_bytes = total.to_player_bytes - told.to_player_bytes
        yield OTHER_SESSIONS, other
