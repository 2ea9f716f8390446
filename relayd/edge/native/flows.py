"""Keeps the forwarding thread true to the table: it forwards for those bindings about which nothing is open."""

from collections.abc import Callable, Iterable

from relayd.core.events import Event, EventKind
from relayd.core.session import Binding, Session
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.edge.native._forwarder import Forwarder

_ENDS = (EventKind.USER_SILENT, EventKind.USER_REVOKED, EventKind.HOST_REPLACED)
_BEGINS = (EventKind.USER_BOUND, EventKind.CONNECTION_KEPT)
_CHANGES = (EventKind.USER_MOVED, EventKind.CONNECTION_RENEWED)

_Counts = tuple[int, int, int, int, int, int]
_NONE: _Counts = (0, 0, 0, 0, 0, 0)


class Flows:
    """Follows a table, and reads for it what the thread counted.

    Args:
        forwarder: the thread.
        table: the table; its `heard` includes from now on what the thread heard.
    """

    def __init__(self, forwarder: Forwarder, table: Table) -> None:
        self._forwarder = forwarder
        self._slots: dict[Binding, int] = {}
        self._read: dict[Binding, _Counts] = {}
        self._heard_elsewhere: Callable[[Binding], float] = table.heard
        table.heard = self.heard

    def __len__(self) -> int:
        """How many bindings the thread forwards for."""
        return len(self._slots)

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        binding = event.binding
        if binding is None:
            return
        if event.kind in _ENDS or event.kind in _CHANGES:
            self._remove(binding)
        if event.kind in _BEGINS or event.kind in _CHANGES:
            self._add(binding)

    def heard(self, binding: Binding) -> float:
        """When a binding was last heard, in any way, in seconds."""
        elsewhere = self._heard_elsewhere(binding)
        slot = self._slots.get(binding)
        return elsewhere if slot is None else max(elsewhere, self._forwarder.last_seen(slot))

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what the thread counted for these sessions since the last look to the table's own counts."""
        for session in sessions:
            if session.bound:
                for user in session.users.values():
                    for binding in (user.server_binding, user.client_binding):
                        slot = self._slots.get(binding) if binding is not None else None
                        if binding is not None and slot is not None:
                            self._count(binding, self._forwarder.counts(slot))

    def _add(self, binding: Binding) -> None:
        user = binding.user
        if (
            binding in self._slots
            or user.binding_on(binding.port) is not binding
            or binding.connection_undecided
            # A rate is the engine's to watch.
            or binding.bucket is not None
        ):
            return
        self._slots[binding] = self._forwarder.add(
            binding.endpoint.number,
            binding.address,
            user.token,
            user.session.token,
            user.connection_id if binding.port is Port.CLIENT else 0,
        )

    def _remove(self, binding: Binding) -> None:
        slot = self._slots.pop(binding, None)
        if slot is not None:
            # At a new address it may be asked about before the thread hears it there.
            binding.last_seen = max(binding.last_seen, self._forwarder.last_seen(slot))
            self._count(binding, self._forwarder.remove(slot))
            self._read.pop(binding, None)

    def _count(self, binding: Binding, now: _Counts) -> None:
        before = self._read.get(binding, _NONE)
        if now == before:
            return
        self._read[binding] = now
        traffic, session = binding.traffic, binding.user.session
        traffic.to_host_datagrams += now[0] - before[0]
        traffic.to_host_bytes += now[1] - before[1]
        traffic.to_player_datagrams += now[2] - before[2]
        traffic.to_player_bytes += now[3] - before[3]
        for verdict, dropped in (
            (Verdict.SEND_QUEUE_FULL, now[4] - before[4]),
            (Verdict.SEND_FAILED, now[5] - before[5]),
        ):
            if dropped:
                session.count_drop(verdict, dropped)
