"""Keeps the forwarding thread true to the table: it forwards for those bindings about which nothing is undecided.

Removal is immediate, while the event is told. Adding is deferred by a moment, until the datagram that bound or moved
a user is judged and counts for that user's rate, which the thread then continues.
"""

from collections.abc import Callable, Iterable

from relayd.core.declaration.common import TRAFFIC
from relayd.core.declaration.thread import COUNTED_DROPS
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.followers import Phase
from relayd.core.pings import Pings
from relayd.core.session import Binding, Session
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.views import BindingRecords
from relayd.core.wire import Port
from relayd.forwarding.thread._forwarder import Forwarder

_BEGINS = (EventKind.USER_BOUND,)
_NO_METER = (0, 0, 0, 0)
_CHANGES = (
    EventKind.USER_MOVED,
    EventKind.USER_RETURNED,
    EventKind.CONNECTION_RENEWED,
    EventKind.CONNECTION_KEPT,
)


class Flows:
    """Follows a table, and reads for it what the thread counted.

    Args:
        forwarder: the thread.
        table: the table; its `presence` includes from now on what the thread heard.
        records: gives each binding its slot.
        later: has a function called soon, from the event loop.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        table: Table,
        records: BindingRecords,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._forwarder = forwarder
        self._records = records
        self._later = later
        self._to_link: dict[Binding, None] = {}
        self._linked: dict[Binding, int] = {}
        """With the slot of each."""
        self._at: dict[int, Binding] = {}
        """The same by slot."""
        self._only_engine_forwards = table.only_engine_forwards
        self._history = table.history
        self._presence = table.presence
        table.presence.register(self)
        table.followers.subscribe(Phase.THREADS, self)

    def __len__(self) -> int:
        """How many bindings the thread forwards for."""
        return len(self._linked)

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        binding = event.binding
        if binding is None:
            self._watch(event)
            return
        if event.kind in UNBOUND or event.kind in _CHANGES:
            self._to_link.pop(binding, None)
            self._remove(binding)
            self._records.end(binding)
        if event.kind in _BEGINS or event.kind in _CHANGES:
            self._records.begin(binding)
            self._link_soon(binding)

    def flush(self) -> None:
        """Adds all bindings that wait; one that the thread refuses stays with the engine, and only that one."""
        waiting, self._to_link = iter(self._to_link), {}
        try:
            for binding in waiting:
                self._add(binding)
        except Exception:
            # The rest of the batch is added by a later flush.
            for binding in waiting:
                self._link_soon(binding)
            raise

    def last_heard(self, binding: Binding) -> float:
        """See `Hearer.last_heard`."""
        return self._records.last_seen(self._records.slot_of(binding)) if binding in self._linked else 0.0

    def pings(self, binding: Binding) -> Pings | None:
        """See `Hearer.pings`."""
        return self._answered(self._records.slot_of(binding)) if binding in self._linked else None

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what the thread counted for these sessions since the last look to the table's own counts."""
        for session in sessions:
            if session.bound:
                for user in session.users.values():
                    for binding in (user.server_binding, user.client_binding):
                        if binding is not None and binding in self._linked:
                            self._take_counts(binding)

    def answer_asked(self) -> None:
        """Tells the thread of receivers that another engine hears: it would call them silent."""
        for slot in self._forwarder.take_asked():
            binding = self._at.get(slot)
            if binding is not None:
                self._records.note_seen(slot, self._presence.last_heard(binding))

    def _watch(self, event: Event) -> None:
        for binding in event.session.bindings():
            if event.kind is EventKind.WATCH_BEGAN:
                self._remove(binding)
            elif event.kind is EventKind.WATCH_ENDED:
                self._link_soon(binding)

    def _link_soon(self, binding: Binding) -> None:
        if not self._to_link:
            self._later(self.flush)
        self._to_link[binding] = None

    def _add(self, binding: Binding) -> None:
        user, slot = binding.user, self._records.slot_of(binding)
        if not slot or binding in self._linked or self._only_engine_forwards(binding):
            return
        meter = binding.meter
        self._forwarder.add(
            slot,
            binding.endpoint.number,
            binding.address,
            user.token,
            user.session.token,
            user.connection_id if binding.port is Port.CLIENT else 0,
            _NO_METER if meter is None else (*meter.rate, meter.datagrams_due_ns, meter.bytes_due_ns),
            binding.local,
        )
        self._linked[binding] = slot
        self._at[slot] = binding

    def _remove(self, binding: Binding) -> None:
        if binding not in self._linked:
            return
        slot = self._linked.pop(binding)
        del self._at[slot]
        *due_ns, local = self._forwarder.remove(slot)
        if binding.meter is not None:
            binding.meter.datagrams_due_ns, binding.meter.bytes_due_ns = due_ns
        # After a move, `last_heard` may be called before the thread hears the new address.
        binding.heard_elsewhere(self._records.last_seen(slot), local)
        binding.take_pings(self._answered(slot))
        self._take_counts(binding)

    def _answered(self, slot: int) -> Pings:
        return Pings(*self._forwarder.pings(slot))

    def _take_counts(self, binding: Binding) -> None:
        counts = self._forwarder.take_counts(self._records.slot_of(binding))
        if not any(counts):
            return
        traffic, session = binding.traffic, binding.user.session
        traffic.count(*counts[: len(TRAFFIC)])
        self._records.account(binding.user)
        for verdict, dropped in zip(COUNTED_DROPS, counts[len(TRAFFIC) :], strict=True):
            if dropped:
                session.count_drop(verdict, dropped)
            if dropped and verdict is Verdict.RATE_LIMITED:
                self._history.limited(binding, dropped, self._presence.last_heard(binding))
