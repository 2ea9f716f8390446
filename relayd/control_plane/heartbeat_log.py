"""Lines about what heartbeats bring: few, however many sessions or heartbeats there are."""

import structlog

from relayd.control_plane.store.contract import Heard

LOGGED_ONE_BY_ONE = 50
"""Sessions that one heartbeat ended or made ready."""

WARNINGS_REMEMBERED = 1000
"""Pairs of relays of one name that were warned of, so that each is warned of once."""

log = structlog.get_logger()


class HeartbeatLog:
    """Remembers what it has said of whom."""

    def __init__(self) -> None:
        self._warned: set[tuple[object, ...]] = set()

    def heard(self, node_id: str, heard: Heard) -> None:
        """A heartbeat brought this about."""
        _each("ended", heard.ended, node_id)
        _each("ready", heard.ready, node_id)
        if heard.taken_back:
            log.warning("sessions taken back from their relay", relay=node_id, sessions=len(heard.taken_back))

    def refused(self, why: str, node_id: str, address: tuple[str, int, int]) -> None:
        """Two relays have one name. Both go on trying about once a second: a line each time would be the whole log."""
        pair = (why, node_id, address)
        if pair in self._warned:
            return
        if len(self._warned) >= WARNINGS_REMEMBERED:
            self._warned.clear()
        self._warned.add(pair)
        ip, server_port, client_port = address
        log.warning("relay refused", reason=why, ip=ip, server_port=server_port, client_port=client_port)


def _each(what: str, session_ids: tuple[str, ...], node_id: str) -> None:
    """A line for each session; one for all when they are so many that writing the lines would hold up the loop."""
    if len(session_ids) > LOGGED_ONE_BY_ONE:
        log.info(f"sessions {what}", sessions=len(session_ids), relay=node_id)
        return
    for session_id in session_ids:
        log.info(f"session {what}", session=session_id, relay=node_id)
