"""What the log says of the table and the traffic: state changes one by one, datagrams only as a summary a minute."""

import structlog

from relayd.core.counters import Counters
from relayd.core.events import Event, EventKind
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.log import short_token

SUMMARY_SECONDS = 60.0
_CHANGES_PER_SECOND = 50

_TOLD_IN_SUM = (EventKind.SESSION_ADDED, EventKind.SESSION_REMOVED)
"""The owner of the table says how many came and went; one line each would be thousands at once."""

_log = structlog.get_logger()


class ChangeLog:
    """Logs the table's events, no more than 50 a second, and every minute what became of the datagrams."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._room = _CHANGES_PER_SECOND
        self._left_out = 0
        self._summary_at: float | None = None
        self._before = self._totals()

    def event(self, event: Event) -> None:
        """Logs a change of the table."""
        if event.kind in _TOLD_IN_SUM:
            return
        if self._room <= 0:
            self._left_out += 1
            return
        self._room -= 1
        about: dict[str, object] = {"session": event.session.session_id}
        if event.binding is not None:
            binding = event.binding
            about |= {
                "user": short_token(binding.user.token),
                "port": binding.port.label,
                "address": f"{binding.address[0]} {binding.address[1]}",
            }
            if binding.port is Port.CLIENT:
                about["connection_id"] = binding.user.connection_id
        _log.info(event.kind.value, **about)

    def tick(self, now: float) -> None:
        """To be called every second.

        Args:
            now: seconds, from a clock that never goes back.
        """
        if self._left_out:
            _log.info("more state changes, too many to log", count=self._left_out)
        self._left_out = 0
        self._room = _CHANGES_PER_SECOND
        if self._summary_at is None:
            self._summary_at = now + SUMMARY_SECONDS
        elif now >= self._summary_at:
            self._summary_at = now + SUMMARY_SECONDS
            self._summarise()

    def _totals(self) -> list[int]:
        return [sum(counts) for counts in zip(*self._counters.datagrams, strict=True)]

    def _summarise(self) -> None:
        totals = self._totals()
        changed = {
            verdict.label: count - before
            for verdict, count, before in zip(Verdict, totals, self._before, strict=True)
            if count > before
        }
        self._before = totals
        if changed:
            _log.info("datagrams of the last minute", **changed)
