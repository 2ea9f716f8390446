"""Keeps the state true to the table: a record for each binding, an account for each user that was ever bound.

The accounts of a session that ended stay until what they counted is recorded as usage.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from relayd.core.counters import Counters, Traffic
from relayd.core.events import Event, EventKind
from relayd.core.followers import Followers, Phase
from relayd.core.session import Binding, Session, User
from relayd.core.table import TOMBSTONE_SECONDS
from relayd.core.views import CountsMemory
from relayd.state import layout
from relayd.state.identities import account_of, identity_of, sum_of_revoked
from relayd.state.layout import NO_SPAN, Identity, Kind
from relayd.state.memory import StateMemory

_ENDS = (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE)
_NO_COUNTS = bytes(layout.RECORD_BYTES - layout.COUNTS_AT)


class Accounts(NamedTuple):
    """Accounts that nothing is counted in any more, until their usage is recorded."""

    slots: list[int]
    records: "Records"

    def free(self) -> None:
        """Their usage is recorded: empties them, for others to be written there."""
        for slot in self.slots:
            self.records.free(slot)


class Spans(Protocol):
    """What records usage, as seen by the state file."""

    def of(self, session: Session) -> bytes:
        """The span that the session's counts go under: 16 bytes."""

    def goes_on(self, session: Session, span: bytes, counts: Traffic) -> bool:
        """The session was there before a restart.

        Args:
            session: the session.
            span: what its counts went under; NO_SPAN for none.
            counts: what there is of them.

        Returns:
            Whether the span continues; else the session begins another one.
        """

    def ended(self, event: Event, accounts: Accounts) -> None:
        """A session ended; its accounts are to be freed in the end."""

    def gone(self, span: bytes, counts: Traffic, accounts: Accounts) -> None:
        """After a restart no session continues these counts; their accounts are to be freed in the end."""


class Records:
    """What is written of bindings and users.

    Args:
        state: the memory.
        now: seconds, on the clock of the table.
        spans: what records usage; None for nothing.
    """

    def __init__(self, state: StateMemory, now: Callable[[], float], *, spans: Spans | None = None) -> None:
        self._state = state
        self._now = now
        self._memory = state.memory
        self._free: list[int] = []
        self._never_used = 1
        self._slots: dict[Binding, int] = {}
        self._accounts: dict[User, int] = {}
        self._sums: dict[Session, int] = {}
        self._told_id: dict[User, int] = {}
        """Under which connection id an account was written."""
        self.kept: dict[tuple[int, int, int], int] = {}
        """Session, user, port → the predecessor's record, for a binding that is restored right now."""
        self.spans = spans
        self._tombstone = 0
        self.counts = CountsMemory(
            self._memory, layout.DECISIONS_AT, layout.record_at(0) + layout.COUNTS_AT, layout.RECORD_BYTES
        )

    def follow(self, followers: Followers) -> None:
        """Follows a table, and who is in its sessions."""
        followers.subscribe(Phase.RECORDS, self)
        followers.subscribe_to_users(Phase.RECORDS, self)

    def counters_memory(self) -> memoryview:
        """Where the engine is to count."""
        return memoryview(self._memory)[layout.COUNTERS_AT : layout.COUNTERS_AT + Counters.MEMORY_BYTES]

    @property
    def go_on(self) -> bool:
        """Whether the counts were taken over from a predecessor."""
        return not self._state.fresh

    def close(self) -> None:
        """Nothing is written any more."""
        self._state.close()

    def beat(self) -> None:
        """To be called every second."""
        self._state.beat()

    # Bindings -----------------------------------------------------------------------------------------------

    def begin(self, binding: Binding) -> int:
        """Writes a binding down. Returns its slot, in which may be counted; 0 if there is no room."""
        user = binding.user
        kept = self.kept.pop((user.session.token, user.token, binding.port), 0)
        slot = kept or self._take()
        if slot:
            self._slots[binding] = slot
        if kept:
            # Its identity is right already. Its counts are in the user's account, which is written below.
            self._empty_counts(slot)
        elif slot:
            self._write(slot, identity_of(binding))
        self.account(user)
        return slot

    def end(self, binding: Binding) -> None:
        """Removes a binding's record; what was counted in its slot has to be in its account by then."""
        slot = self._slots.pop(binding, 0)
        if slot:
            self.free(slot)
        self.account(binding.user)

    def slot_of(self, binding: Binding) -> int:
        """Where a binding is written down; 0 if it is not."""
        return self._slots.get(binding, 0)

    def last_seen(self, slot: int) -> float:
        """When the forwarding thread last heard a binding, in seconds; 0.0 for never."""
        seen: float = layout.LAST_SEEN.unpack_from(self._memory, layout.record_at(slot) + layout.COUNTS_AT)[0]
        return seen

    def note_seen(self, slot: int, at: float) -> None:
        """Has the forwarding thread take a binding for heard at that time, in seconds, if not later."""
        if at > self.last_seen(slot):
            layout.LAST_SEEN.pack_into(self._memory, layout.record_at(slot) + layout.COUNTS_AT, at)

    # Users --------------------------------------------------------------------------------------------------

    def account(self, user: User) -> None:
        """Brings the account of a user up to date: to be called whenever something was added to its counts."""
        traffic = user.traffic
        if traffic is None:
            return
        slot = self._accounts.get(user, 0)
        if not slot:
            slot = self._take()
            if not slot:
                self._span_of(user.session)
                return
            self._accounts[user] = slot
        if self._told_id.get(user) != user.connection_id:
            self._told_id[user] = user.connection_id
            self._write(slot, account_of(user, self._span_of(user.session)), keep_counts=True)
        self._write_counts(slot, traffic)

    def _span_of(self, session: Session) -> bytes:
        return self.spans.of(session) if self.spans is not None else NO_SPAN

    def adopt_account(self, user: User, slot: int, identity: Identity) -> None:
        """Takes over an account of the predecessor, which has this identity."""
        self._accounts[user] = slot
        if (identity.ip == NO_SPAN) is (self.spans is None):
            self._told_id[user] = identity.connection_id

    def account_revoked(self, session: Session) -> None:
        """Brings up to date what users had who are no longer in a session."""
        traffic = session.revoked_traffic
        slot = self._sums.get(session, 0)
        if traffic is None:
            return
        if not slot:
            slot = self._take()
            if not slot:
                return
            self._sums[session] = slot
            self._write(slot, sum_of_revoked(session, self._span_of(session)))
        self._write_counts(slot, traffic)

    def authorized(self, user: User, admitted: bool) -> None:
        """Follows who is in a session: one that comes again is another user, with an account and an id of its own."""
        if admitted:
            return
        self._told_id.pop(user, None)
        slot = self._accounts.pop(user, 0)
        if slot:
            self.free(slot)
        # Not where the whole session ends: its users are in it to the last.
        if user.token not in user.session.users:
            self.account_revoked(user.session)

    def event(self, event: Event) -> None:
        """Follows sessions that end."""
        if event.kind in _ENDS:
            session = event.session
            self.write_tombstone(session.token, self._now() + TOMBSTONE_SECONDS)
            accounts = (self._accounts.pop(user, 0) for user in session.users.values())
            slots = [slot for slot in (self._sums.pop(session, 0), *accounts) if slot]
            if self.spans is None:
                for slot in slots:
                    self.free(slot)
                return
            for slot in slots:
                self.keep_until_recorded(slot)
            self.spans.ended(event, Accounts(slots, self))

    def keep_until_recorded(self, slot: int) -> None:
        """Nothing is counted in this account any more: keeps it until its usage is recorded."""
        at = layout.record_at(slot)
        identity = layout.decode(bytes(self._memory[at : at + layout.COUNTS_AT]))
        if identity is not None:
            self._write(slot, identity._replace(kind=Kind.FORMER), keep_counts=True)

    def write_tombstone(self, session_token: int, forgotten_at: float) -> None:
        """Writes a tombstone for a session that ended, over the oldest one."""
        at = layout.TOMBSTONES_AT + self._tombstone * layout.TOMBSTONE.size
        self._tombstone = (self._tombstone + 1) % layout.TOMBSTONES
        layout.TOMBSTONE.pack_into(self._memory, at, session_token, 1, forgotten_at)

    # Places -------------------------------------------------------------------------------------------------

    def begin_after(self, used: int, free: list[int]) -> None:
        """Continues with what is in the memory: ``used`` places, of which these are free."""
        self._never_used = used
        self._free = free

    def free(self, slot: int) -> None:
        """Empties a record, for another to be written there."""
        self.empty(slot)
        self._free.append(slot)

    def empty(self, slot: int) -> None:
        """Leaves nothing of a record."""
        at = layout.record_at(slot)
        self._memory[at : at + 4] = bytes(4)
        self._memory[at + 4 : at + layout.RECORD_BYTES] = bytes(layout.RECORD_BYTES - 4)

    def add_counts(self, slot: int, traffic: Traffic) -> None:
        """Adds to an account that nothing has taken over."""
        total = Traffic()
        read_traffic(memoryview(self._memory), slot, total)
        total.add(traffic)
        self._write_counts(slot, total)

    def invalidate_address(self, slot: int, binding: Identity) -> Identity:
        """Marks a binding's address as invalid: only whose it was and its counts are kept."""
        nowhere = binding._replace(
            endpoint=layout.NOWHERE, family=0, peer_port=0, scope=0, ip=bytes(16), local=layout.NO_LOCAL
        )
        self._write(slot, nowhere, keep_counts=True)
        return nowhere

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        if self._never_used >= self._state.slots and not self._state.grow():
            return 0
        self._never_used += 1
        return self._never_used - 1

    def _write_counts(self, slot: int, traffic: Traffic) -> None:
        layout.COUNTS.pack_into(
            self._memory,
            layout.record_at(slot) + layout.COUNTS_AT + layout.LAST_SEEN.size,
            traffic.to_host_datagrams,
            traffic.to_host_bytes,
            traffic.to_player_datagrams,
            traffic.to_player_bytes,
            *layout.NO_DROPS,
        )

    def _write(self, slot: int, identity: Identity, *, keep_counts: bool = False) -> None:
        at = layout.record_at(slot)
        memory = self._memory
        body = layout.encode(identity)
        if not keep_counts:
            memory[at : at + 4] = bytes(4)
            self._empty_counts(slot)
        # In one write, so that the record is invalid for as short a moment as possible.
        memory[at : at + layout.COUNTS_AT] = layout.checksum(body) + body

    def _empty_counts(self, slot: int) -> None:
        at = layout.record_at(slot)
        self._memory[at + layout.COUNTS_AT : at + layout.RECORD_BYTES] = _NO_COUNTS


def read_traffic(memory: memoryview, slot: int, into: Traffic) -> None:
    """Adds the counts of a record to these, unless it was damaged."""
    at = layout.record_at(slot) + layout.COUNTS_AT + layout.LAST_SEEN.size
    into.count(*layout.plausible(*layout.COUNTS.unpack_from(memory, at)))
