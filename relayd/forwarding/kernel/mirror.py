"""Keeps the maps of the fast path true to the table, in an order in which no datagram is ever forwarded wrongly.

A binding gets a slot once nothing about it is undecided, and its slot's entry never changes: a user who moves or
gets another connection id gets another slot. Removal is immediate, while the event is told: first what leads to the
slot; the slot is reused only when no run of the program can still know it. Adding is deferred by a moment and batched:
until then the sockets serve, which is slower but never wrong.
"""

import ctypes
from collections import Counter
from collections.abc import Callable

from relayd.core.counters import Traffic
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.meter import NS_PER_SECOND
from relayd.core.pings import Pings
from relayd.core.session import Binding, Session, User
from relayd.core.table import TOMBSTONE_SECONDS, Table
from relayd.core.wire import Port
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.by_sockets import ServedBySockets
from relayd.forwarding.kernel.guesses import NotedGuesses
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.program import KernelProgram
from relayd.forwarding.kernel.slots import Slots
from relayd.forwarding.kernel.traffic import SlotTraffic

_PAIRS_AT_ONCE = 4096
_ALWAYS_NS = (1 << 64) - 1
_NOBODY = bytes(layout.Pair())
_BEGINS = (EventKind.USER_BOUND, EventKind.CONNECTION_KEPT)
_CHANGES = (
    EventKind.USER_MOVED,
    EventKind.USER_RETURNED,
    EventKind.USER_NAMED,
    EventKind.CONNECTION_RENEWED,
)


class SessionRow:
    """A session that has slots: its place in the map, and how many."""

    __slots__ = ("host_slot", "index", "slots")

    def __init__(self, index: int) -> None:
        self.index = index
        self.host_slot = 0
        self.slots = 0


class Mirror:
    """Follows a table, as `FastPath` tells it to.

    Args:
        program: whose maps it writes.
        table: the table.
        later: has a function called soon, from the event loop.
        account: told of a user whose counts have changed.
        clock: that of the table and of the program, in seconds.
    """

    def __init__(
        self,
        program: KernelProgram,
        table: Table,
        *,
        later: Callable[[Callable[[], None]], object],
        account: Callable[[User], None],
        clock: Callable[[], float],
    ) -> None:
        self.table = table
        self._account = account
        self.unsettled: Counter[Session] = Counter()
        """Slots of a session that runs which are under way may still count in."""
        self.traffic = SlotTraffic(
            states=program.map("states"),
            taken_over=program.map("taken_over"),
            pings=program.map("pings"),
            clock=clock,
        )
        self.slots = Slots(program.map("bindings").max_entries - 1)
        self.indexes = Slots(program.map("sessions").max_entries - 1)
        self.slot_of: dict[Binding, int] = {}
        self.rows: dict[Session, SessionRow] = {}
        self.pairs = program.map("pairs")
        self.bindings = program.map("bindings")
        self.sessions = program.map("sessions")
        self.connections = program.map("connections")
        self.pairs_complete = True
        self.by_sockets = ServedBySockets(program.map("by_sockets"))
        self.guesses = NotedGuesses(program.map("guesses"), program.map("guess_sources"))
        self._ended: BpfMap = program.map("ended")
        self._revoked: BpfMap = program.map("revoked")
        self._later = later
        self._scheduled = False
        self._to_link: dict[Binding, None] = {}
        self._new_pairs: dict[tuple[int, int], None] = {}
        self._old_pairs: dict[tuple[int, int], None] = {}

    # What the table tells -----------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        binding = event.binding
        if binding is not None:
            if event.kind in UNBOUND or event.kind in _CHANGES:
                self._to_link.pop(binding, None)
                self.unlink(binding)
                self.by_sockets.end(binding)
            if event.kind in _BEGINS or event.kind in _CHANGES:
                self._to_link[binding] = None
                self.schedule()
        elif event.kind is EventKind.SESSION_ADDED:
            self._ended.delete(_u32(event.session.token))
            self.guesses.begin(event.session.token)
            self.schedule()
        elif event.kind is EventKind.WATCH_BEGAN:
            for binding in event.session.bindings():
                self.unlink(binding)
                self.by_sockets.begin(binding)
        elif event.kind is EventKind.WATCH_ENDED:
            self._to_link |= dict.fromkeys(event.session.bindings())
            self.schedule()
        else:
            self.guesses.end(event.session.token)
            self._ended.update(_u32(event.session.token), self._forgotten())

    def authorized(self, user: User, admitted: bool) -> None:
        """Notes that a user is in a session now, or no longer."""
        pair = user.token, user.session.token
        gain, lose = (self._new_pairs, self._old_pairs) if admitted else (self._old_pairs, self._new_pairs)
        lose.pop(pair, None)
        gain[pair] = None
        if not admitted and self.table.by_token.get(user.session.token) is user.session:
            self._revoked.update(_pack(*pair), self._forgotten())
        if len(gain) >= _PAIRS_AT_ONCE:
            self._write_pairs()
        else:
            self.schedule()

    def _forgotten(self) -> bytes:
        """When what ends now is forgotten."""
        return int((self.traffic.now() + TOMBSTONE_SECONDS) * 1e9).to_bytes(8, "little")

    def last_heard(self, binding: Binding) -> float:
        """See `Hearer.last_heard`."""
        slot = self.slot_of.get(binding)
        return self.traffic.last_seen(slot) if slot is not None else 0.0

    def pings(self, binding: Binding) -> Pings | None:
        """See `Hearer.pings`."""
        slot = self.slot_of.get(binding)
        return self.traffic.pings(slot) if slot is not None else None

    def schedule(self) -> None:
        """Has `flush` called soon."""
        if not self._scheduled:
            self._scheduled = True
            self._later(self.flush)

    def flush(self) -> None:
        """Writes all that waits to be written."""
        self._scheduled = False
        self.guesses.flush()
        self._write_pairs()
        waiting, self._to_link = self._to_link, {}
        for binding in waiting:
            if not self._link(binding):
                self._to_link[binding] = None
                self.by_sockets.begin(binding)

    # Counters -----------------------------------------------------------------------------------------------

    def absorb(self, session: Session) -> None:
        """Adds what the kernel counted for a session since the last look to the table's own counts, and keeps these."""
        if session in self.rows:
            for user in session.users.values():
                for binding in (user.server_binding, user.client_binding):
                    slot = self.slot_of.get(binding) if binding is not None else None
                    if binding is not None and slot is not None:
                        self.take_counts(slot, binding)

    def take_counts(self, slot: int, binding: Binding) -> None:
        """The same for one binding."""
        limited = self.traffic.absorb(slot, binding.traffic, binding.user.session)
        if limited:
            self.table.history.limited(binding, limited, self.traffic.last_seen(slot))
        self._account(binding.user)

    # Maps ---------------------------------------------------------------------------------------------------

    def _write_pairs(self) -> None:
        if self._old_pairs:
            self.pairs.delete_batch(_pack_pairs(self._old_pairs))
            self._old_pairs = {}
        if self._new_pairs:
            new, self._new_pairs = self._new_pairs, {}
            try:
                self.pairs.update_batch(_pack_pairs(new), _NOBODY * len(new))
            except BpfError:
                self.pairs_complete = False

    def _link(self, binding: Binding) -> bool:
        """Gives a binding to the kernel, if the kernel may serve it. False if there was no room: try again."""
        user, session = binding.user, binding.user.session
        peer = binding.address
        if binding in self.slot_of or user.binding_on(binding.port) is not binding:
            return True
        if (
            self.table.only_engine_forwards(binding)
            or not peer[1]
            # A link-local address says nothing without its interface.
            or peer[0].lower().startswith(("fe8", "fe9", "fea", "feb"))
        ):
            self.by_sockets.begin(binding)
            return True
        row = self.rows.get(session)
        index = row.index if row is not None else self.indexes.take()
        slot = self.slots.take() if index else 0
        if not slot:
            if index and row is None:
                self.indexes.put_back(index)
            return False
        entry = layout.Binding(
            peer=(ctypes.c_uint8 * 16)(*layout.pack_ip(peer[0])),
            peer_port=(ctypes.c_uint8 * 2)(*peer[1].to_bytes(2, "big")),
            family=layout.family_of(peer[0]),
            endpoint=layout.endpoint_number(binding.endpoint),
            user=user.token,
            session=session.token,
            connection_id=user.connection_id if binding.port is Port.CLIENT else 0,
            session_index=index,
            conflicts_until_ns=_conflicts_until_ns(binding),
        )
        try:
            self.bindings.put(slot, bytes(entry))
            self.traffic.begin(slot, binding.meter, self.table.presence.last_heard(binding))
            self.adopt(binding, slot, index)
            self._write_session(session)
            if binding.port is Port.CLIENT:
                self.connections.update(_pack(session.token, user.connection_id), _u32(slot))
            self.by_sockets.end(binding)
            self.write_pair(user)
        except BpfError:
            self.unlink(binding)
            self.by_sockets.begin(binding)
            self.pairs_complete = False
        return True

    def adopt(self, binding: Binding, slot: int, index: int) -> None:
        """Notes that a binding has this slot, and its session this index."""
        session = binding.user.session
        row = self.rows.get(session)
        if row is None:
            row = self.rows[session] = SessionRow(index)
        row.slots += 1
        if binding.port is Port.SERVER:
            row.host_slot = slot
        self.slot_of[binding] = slot

    def unlink(self, binding: Binding) -> None:
        """Takes a binding from the kernel, if it has it."""
        slot = self.slot_of.pop(binding, None)
        if slot is None:
            return
        user, session = binding.user, binding.user.session
        row = self.rows[session]
        self.write_pair(user)
        if binding.port is Port.CLIENT:
            self._remove_connection(session.token, slot)
        else:
            row.host_slot = 0
            self._write_session(session)
        row.slots -= 1
        self.take_counts(slot, binding)
        # The sockets may not have heard it for long.
        binding.heard_elsewhere(self.traffic.last_seen(slot), self.traffic.local(slot))
        binding.take_pings(self.traffic.pings(slot))
        if binding.meter is not None:
            self.traffic.give_back(slot, binding.meter)
        self.unsettled[session] += 1
        self.slots.retire(slot, lambda: self._last_look(slot, binding))
        if not row.slots:
            del self.rows[session]
            self.sessions.put(row.index, bytes(layout.Session()))
            self.indexes.retire(row.index, _nothing)

    def _last_look(self, slot: int, binding: Binding) -> None:
        """Counts what program runs in progress still forwarded; for a user that is gone, in its session's own sum."""
        user, session = binding.user, binding.user.session
        sink = binding.traffic
        if session.users.get(user.token) is not user:
            sink = session.revoked_traffic = session.revoked_traffic or Traffic()
        self.traffic.absorb(slot, sink, session)
        self.traffic.end(slot)
        self.unsettled[session] -= 1
        if not self.unsettled[session]:
            del self.unsettled[session]

    def _remove_connection(self, session_token: int, slot: int) -> None:
        # By then the user may already have another id: the one the slot was given is the one to take out.
        entry = layout.Binding.from_buffer_copy(self.bindings.lookup(_u32(slot)) or bytes(layout.Binding()))
        self.connections.delete(_pack(session_token, entry.connection_id))

    def _write_session(self, session: Session) -> None:
        row = self.rows[session]
        self.sessions.put(row.index, _pack(session.token, row.host_slot))

    def write_pair(self, user: User) -> None:
        """Writes which slots a user has."""
        pair = user.token, user.session.token
        bindings = user.server_binding, user.client_binding
        slots = [self.slot_of.get(binding, 0) if binding else 0 for binding in bindings]
        self._new_pairs.pop(pair, None)
        try:
            self.pairs.update(_pack(*pair), bytes(layout.Pair(slots=(ctypes.c_uint32 * len(slots))(*slots))))
        except BpfError:
            # No room or no memory. What must not stay is a row that names a slot which is no longer this user's.
            self.pairs.delete(_pack(*pair))
            self.pairs_complete = False
            for binding in bindings:
                if binding is not None:
                    self.by_sockets.begin(binding)


def _conflicts_until_ns(binding: Binding) -> int:
    """Until when datagrams from elsewhere are not the program's to drop: some may move the user at once."""
    user = binding.user
    if user.ip_address is not None and not user.is_named(binding.address[0]):
        return _ALWAYS_NS
    return int(binding.probation.until * NS_PER_SECOND) if binding.probation is not None else 0


def _nothing() -> None:
    pass


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _pack(first: int, second: int) -> bytes:
    return first.to_bytes(4, "little") + second.to_bytes(4, "little")


def _pack_pairs(pairs: dict[tuple[int, int], None]) -> bytes:
    return b"".join(_pack(user, session) for user, session in pairs)
