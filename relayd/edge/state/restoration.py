"""Brings back what the process before this one knew, as soon as the session source names those it was about."""

from collections.abc import Callable

import structlog

from relayd.core.counters import Counters, Traffic
from relayd.core.endpoint import Endpoint
from relayd.core.session import Session, User
from relayd.core.table import Table
from relayd.core.views import DECIDED_BY_FORWARDER
from relayd.core.wire import Port
from relayd.edge.state import layout
from relayd.edge.state.file import StateMemory
from relayd.edge.state.layout import Identity, Kind
from relayd.edge.state.records import NO_SPAN, Records, read_traffic, unpack_address

_log = structlog.get_logger()


class Restoration:
    """What a process before this one left, until it is brought back or given up.

    Args:
        state: the memory it is in.
        records: go on with it.
        table: gets it back, user by user as they are authorized.
        endpoints: the sockets of this process.
        counters: get what the forwarding thread decided last.
        now: seconds, on the clock of the table.
        longest_silence_seconds: bindings are given up if nobody was there for longer: users are silent that long only
            when they have left.
    """

    def __init__(
        self,
        state: StateMemory,
        records: Records,
        table: Table,
        endpoints: list[Endpoint],
        counters: Counters,
        now: Callable[[], float],
        longest_silence_seconds: float,
    ) -> None:
        self.restored = 0
        self._memory = memoryview(state.memory)
        self._records = records
        self._table = table
        self._endpoints = endpoints
        self._now = now
        self._accounts: dict[tuple[int, int], int] = {}
        self._former: dict[tuple[int, bytes], list[int]] = {}
        """By session and span."""
        self._bindings: dict[tuple[int, int], list[tuple[Identity, int]]] = {}
        silent = state.silent_seconds()
        self._read(state, keep_bindings=state.same_sockets and silent is not None and silent < longest_silence_seconds)
        self._counts = self._sums()
        self._take_decisions(counters)
        state.is_ours()
        if self:
            table.on_authorized.append(self.take_account)
            records.left = self._left

    def listen_last(self) -> None:
        """Bindings are brought back after a fast path, which went on forwarding and knows better, has done so."""
        if self:
            self._table.on_authorized.append(self.take_bindings)

    def __bool__(self) -> bool:
        """Whether there is anything to bring back."""
        return bool(self._accounts or self._bindings or self._former)

    def _read(self, state: StateMemory, keep_bindings: bool) -> None:
        used = 1
        free: list[int] = []
        found: set[tuple[Kind, tuple[int, int, int]]] = set()
        given_up: list[tuple[Identity, int]] = []
        for slot in range(1, state.slots):
            identity = self._identity(slot)
            if identity is None:
                continue
            if not self._usable(identity, keep_bindings):
                given_up.append((identity, slot))
                continue
            pair = identity.session, identity.user
            if identity.kind is not Kind.FORMER and (identity.kind, identity.key) in found:
                continue
            # Up to the last one that is used, all that are not are free.
            free += range(used, slot)
            used = slot + 1
            found.add((identity.kind, identity.key))
            if identity.kind is Kind.ACCOUNT:
                self._accounts[pair] = slot
            elif identity.kind is Kind.FORMER:
                self._former.setdefault((identity.session, identity.ip), []).append(slot)
            else:
                self._bindings.setdefault(pair, []).append((identity, slot))
        self._records.begin_after(used, free)
        for identity, slot in given_up:
            self._take_counts(identity, slot)
        self._read_tombstones(state)

    def _identity(self, slot: int) -> Identity | None:
        at = layout.record_at(slot)
        return layout.decode(bytes(self._memory[at : at + layout.COUNTS_AT]))

    def _take_counts(self, identity: Identity, slot: int) -> None:
        """Moves what was counted for a binding that is given up to its user's account."""
        account = self._accounts.get((identity.session, identity.user), 0)
        if account:
            traffic = Traffic()
            read_traffic(self._memory, slot, traffic)
            self._records.add_counts(account, traffic)
        self._records.clear(slot)

    def _sums(self) -> dict[tuple[int, bytes], Traffic]:
        """What was counted, by session and span."""
        sums: dict[tuple[int, bytes], Traffic] = {}
        former = ((key, slot) for key, slots in self._former.items() for slot in slots)
        for key, slot in (*former, *((self._key(slot), slot) for slot in self._accounts.values())):
            read_traffic(self._memory, slot, sums.setdefault(key, Traffic()))
        return sums

    def _key(self, slot: int) -> tuple[int, bytes]:
        identity = self._identity(slot)
        return (identity.session, identity.ip) if identity is not None else (0, NO_SPAN)

    def _usable(self, identity: Identity, keep_bindings: bool) -> bool:
        if identity.kind is not Kind.BINDING:
            return True
        if not keep_bindings or identity.endpoint >= len(self._endpoints):
            return False
        return self._endpoints[identity.endpoint].port == identity.port

    def _read_tombstones(self, state: StateMemory) -> None:
        if state.silent_seconds() is None:
            return
        end = layout.TOMBSTONES_AT + layout.TOMBSTONES * layout.TOMBSTONE.size
        area = bytes(self._memory[layout.TOMBSTONES_AT : end])
        stones = sorted(
            (forgotten_at, token) for token, used, forgotten_at in layout.TOMBSTONE.iter_unpack(area) if used
        )
        for forgotten_at, token in stones:
            self._table.remember_ended(token, forgotten_at)

    def _take_decisions(self, counters: Counters) -> None:
        count = len(Port) * len(DECIDED_BY_FORWARDER) * 2
        end = layout.DECISIONS_AT + count * 8
        words = self._memory[layout.DECISIONS_AT : end].cast("Q")
        for port in Port:
            for index, verdict in enumerate(DECIDED_BY_FORWARDER):
                at = 2 * (port * len(DECIDED_BY_FORWARDER) + index)
                counters.datagrams[port][verdict] += words[at]
                counters.bytes[port][verdict] += words[at + 1]
        self._memory[layout.DECISIONS_AT : end] = bytes(count * 8)

    def take_account(self, user: User, added: bool) -> None:
        """Brings back the counts of a user that the session source names, and its connection id."""
        slot = self._accounts.pop((user.session.token, user.token), 0) if added else 0
        identity = self._identity(slot) if slot else None
        if identity is None:
            return
        if self._goes_on(user.session, identity.ip):
            self._records.adopt_account(user, slot)
            if user.traffic is None:
                user.traffic = Traffic()
                read_traffic(self._memory, slot, user.traffic)
        else:
            self._set_aside(slot)
        connection_id = identity.connection_id
        if connection_id and not user.connection_id and connection_id not in user.session.players:
            user.set_connection_id(connection_id)

    def _goes_on(self, session: Session, span: bytes) -> bool:
        key = session.token, span
        spans = self._records.spans
        if spans is not None and not spans.goes_on(session, span, self._counts.get(key, Traffic())):
            return False
        former = self._former.pop(key, None)
        if former:
            session.revoked_traffic = session.revoked_traffic or Traffic()
            for slot in former:
                read_traffic(self._memory, slot, session.revoked_traffic)
            self._records.adopt_former(session, former)
        return True

    def _left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        slot = self._accounts.get((session_token, user_token), 0)
        if slot:
            self._records.add_counts(slot, traffic)

    def take_bindings(self, user: User, added: bool) -> None:
        """Brings back where it was bound."""
        for identity, slot in self._bindings.pop((user.session.token, user.token), ()) if added else ():
            self._restore(user, identity, slot)

    def _restore(self, user: User, identity: Identity, slot: int) -> None:
        # What the forwarding thread counted there is not in the account yet.
        if user.traffic is None:
            user.traffic = Traffic()
        read_traffic(self._memory, slot, user.traffic)
        port = Port(identity.port)
        session = user.session
        holder = session.players.get(identity.connection_id) if port is Port.CLIENT else None
        taken = session.host is not None if port is Port.SERVER else holder is not None and holder is not user
        if user.binding_on(port) is not None or taken:
            self._records.free(slot)
            self._records.account(user)
            return
        try:
            address = unpack_address(identity)
        except (OSError, ValueError):
            self._records.free(slot)
            return
        self._records.kept[identity.key] = slot
        endpoint = self._endpoints[identity.endpoint]
        self._table.restore(user, endpoint, address, identity.connection_id, self._now(), identity.undecided)
        self.restored += 1

    def finish(self) -> None:
        """The whole table is there: what it did not name is given up."""
        for listener in (self.take_account, self.take_bindings):
            if listener in self._table.on_authorized:
                self._table.on_authorized.remove(listener)
        for bindings in self._bindings.values():
            for identity, slot in bindings:
                self._take_counts(identity, slot)
                self._records.free(slot)
        self._bindings.clear()
        for slot in self._accounts.values():
            self._set_aside(slot)
        self._accounts.clear()
        counts = self._sums()
        for token, span in list(self._former):
            # A session may go on without those who are no longer in it.
            session = self._table.by_token.get(token)
            if session is None or not self._goes_on(session, span):
                self._give_up(span, counts[token, span], self._former.pop((token, span)))
        if self.restored:
            _log.info("goes on with what was bound before", bindings=self.restored)

    def _set_aside(self, slot: int) -> None:
        """Nobody goes on with this account; its user may get another one."""
        self._former.setdefault(self._key(slot), []).append(slot)
        self._records.to_former(slot)

    def _give_up(self, span: bytes, counts: Traffic, slots: list[int]) -> None:
        if self._records.spans is not None:
            self._records.spans.gone(span, counts, slots)
            return
        for slot in slots:
            self._records.free(slot)
