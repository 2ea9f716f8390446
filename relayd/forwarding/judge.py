"""What becomes of a datagram that reaches Python: the engine's decision, and what is sent because of it."""

import errno
from collections.abc import Sequence

import structlog

from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.engine import Action, Engine
from relayd.core.verdict import Verdict
from relayd.core.views import BindingRecords
from relayd.forwarding.asked import GONE, leaving_from
from relayd.forwarding.sockets import BoundSocket

_log = structlog.get_logger()

_QUEUE_FULL = (errno.EAGAIN, errno.ENOBUFS)
_TOLD_EVERY_SECONDS = 60.0
"""A defect that one datagram shows, the next million may show too."""


class Judge:
    """Asks the engine about datagrams, and does what it says.

    Args:
        engine: the engine.
        sockets: what it names by their endpoints.
        records: told of what was forwarded for whom.
    """

    def __init__(self, engine: Engine, sockets: Sequence[BoundSocket], records: BindingRecords) -> None:
        self._engine = engine
        self._records = records
        self._sockets = [one.socket for one in sockets]
        self._failed = 0
        """Datagrams that could not be handled since the log said so."""
        self._tell_at = 0.0

    def receive(self, endpoint: Endpoint, data: bytes, source: Address, now: float, local: Local | None = None) -> None:
        """The whole way of one datagram. `local`: the address of this host that it was sent to, where that is told."""
        try:
            action = self._engine.handle(endpoint, data, source, now, local)
            if action.endpoint is not None:
                self._send(endpoint, len(data), action, action.endpoint)
            if action.player is not None:
                self._records.account(action.player.user)
        except Exception:  # noqa: BLE001
            # A defect. Raised further, it would close the port for everybody.
            self._failed += 1
            if now >= self._tell_at:
                _log.exception("datagrams could not be handled", port=endpoint.port.label, count=self._failed)
                self._failed = 0
                self._tell_at = now + _TOLD_EVERY_SECONDS

    def _send(self, arrived_at: Endpoint, size_bytes: int, action: Action, leaves_from: Endpoint) -> None:
        # Straight to the socket and not through the transport, which would queue without bound what the kernel does
        # not take. A game is better served by the next datagram than by a late one; and with no queue there is
        # nothing to start again.
        try:
            self._send_from(leaves_from, action)
        except OSError as error:
            full = error.errno in _QUEUE_FULL
            reason = Verdict.SEND_QUEUE_FULL if full else Verdict.SEND_FAILED
            self._engine.unsent(arrived_at, size_bytes, action, reason)

    def _send_from(self, endpoint: Endpoint, action: Action) -> None:
        """Sends from the address that the receiver sends to, or from any where this host no longer has that one.

        Raises:
            OSError: the kernel does not take it.
        """
        sock = self._sockets[endpoint.number]
        if action.local is not None:
            try:
                sock.sendmsg((action.datagram,), leaving_from(action.local), 0, action.to)
                return
            except OSError as error:
                if error.errno not in GONE:
                    raise
        sock.sendto(action.datagram, action.to)
