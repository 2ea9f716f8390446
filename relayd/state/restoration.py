"""Restores what the predecessor knew of a user, as soon as the session source names that user."""

from collections.abc import Callable, Iterator, Sequence

import structlog

from relayd.core.counters import MOST_COUNTED, Counters, Traffic
from relayd.core.endpoint import Address, Endpoint
from relayd.core.followers import Phase
from relayd.core.session import Session, User
from relayd.core.table import TOMBSTONE_SECONDS, Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.state import layout
from relayd.state.identities import local_from, unpack_address
from relayd.state.layout import Identity
from relayd.state.left import Left
from relayd.state.memory import StateMemory
from relayd.state.records import Accounts, Records, read_traffic

_log = structlog.get_logger()


class Restoration:
    """What the predecessor left, until it is restored or discarded.

    A fast path kept forwarding meanwhile and knows better: it takes over its bindings before this does.

    Args:
        state: the memory it is in.
        records: take it over.
        table: gets it back, user by user as they are authorized.
        endpoints: the sockets of this process.
        counters: get what the forwarding thread decided last.
        now: seconds, on the clock of the table.
        longest_silence_seconds: bindings are discarded if no relay was running for longer: users are silent that long
            only when they have left.
    """

    def __init__(
        self,
        *,
        state: StateMemory,
        records: Records,
        table: Table,
        endpoints: Sequence[Endpoint],
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
        self._gone_on: dict[tuple[Session, bytes], bool] = {}
        """Whether a session continues the counts of a span."""
        self._given_up: dict[tuple[int, bytes], list[int]] = {}
        """Slots that are about to be discarded, by session token and span; the session may still be named meanwhile."""
        silent = state.silent_seconds()
        self._until = now() + longest_silence_seconds - (silent or 0.0)
        """Bindings that the session source has not named by then are too old."""
        known = endpoints if state.same_sockets and silent is not None and silent < longest_silence_seconds else ()
        self._left = Left(state, records, known)
        self.bound = self._left.bindings_found
        """How many bindings there were to restore."""
        self._read_tombstones(state)
        self._check_counters()
        self._take_decisions(counters)
        state.take_over()
        self._open = bool(self._left)
        if self:
            table.followers.subscribe_to_users(Phase.RECORDS, self)

    @property
    def go_on(self) -> bool:
        """See `KeptCounts.go_on`."""
        return self._records.go_on

    def account(self, user: User) -> None:
        """See `KeptCounts.account`."""
        self._records.account(user)

    @property
    def unnamed(self) -> bool:
        """Whether somebody was bound whom the session source has not named so far."""
        return self.bound > 0 and bool(self._left.bindings)

    def __bool__(self) -> bool:
        """Whether there was something to restore, and `finish` is still to be called."""
        return self._open

    def _read_tombstones(self, state: StateMemory) -> None:
        end = layout.TOMBSTONES_AT + layout.TOMBSTONES * layout.TOMBSTONE.size
        if state.silent_seconds() is None:
            # Times from before the host was booted mean nothing, and the next process could not tell them apart.
            self._memory[layout.TOMBSTONES_AT : end] = bytes(end - layout.TOMBSTONES_AT)
            return
        area = bytes(self._memory[layout.TOMBSTONES_AT : end])
        now = self._now()
        # They have no checksum: one with an impossible time would never be forgotten.
        stones = sorted(
            (
                (forgotten_at, token)
                for token, used, forgotten_at in layout.TOMBSTONE.iter_unpack(area)
                if used and now < forgotten_at <= now + TOMBSTONE_SECONDS
            ),
            reverse=True,
        )
        for forgotten_at, token in stones:
            self._table.remember_ended(token, forgotten_at)

    def _check_counters(self) -> None:
        """They have no checksum: starts at zero where they cannot be right."""
        damaged = False
        areas = ((layout.COUNTERS_AT, Counters.MEMORY_BYTES), (layout.DECISIONS_AT, layout.DECISIONS_BYTES))
        for start, size in areas:
            area = self._memory[start : start + size]
            if max(area.cast("Q")) > MOST_COUNTED:
                area[:] = bytes(size)
                damaged = True
        if damaged:
            _log.warning("the counts of the relay before are not used: they were damaged")

    def _take_decisions(self, counters: Counters) -> None:
        end = layout.DECISIONS_AT + layout.DECISIONS_BYTES
        words = self._memory[layout.DECISIONS_AT : end].cast("Q")
        for port in Port:
            for verdict in Verdict:
                at = 2 * (port * len(Verdict) + verdict)
                counters.datagrams[port][verdict] += words[at]
                counters.bytes[port][verdict] += words[at + 1]
        self._memory[layout.DECISIONS_AT : end] = bytes(layout.DECISIONS_BYTES)

    def authorized(self, user: User, admitted: bool) -> None:
        """Restores all that is left of a user that the session source names."""
        if admitted:
            self.bring_back(user)
            for identity, slot in self._left.bindings.pop((user.session.token, user.token), ()):
                self._restore(user, identity, slot)

    def bring_back(self, user: User) -> None:
        """Restores the counts of a user that the session source names, and its connection id: once."""
        found = self._left.accounts.pop((user.session.token, user.token), None)
        if found is not None:
            self._restore_account(user, *found)

    def _restore_account(self, user: User, identity: Identity, slot: int) -> None:
        session = user.session
        same = identity.game == layout.game_of(session.session_id)
        if same and self._goes_on(session, identity.ip):
            self._records.adopt_account(user, slot, identity)
            if user.traffic is None:
                user.traffic = Traffic()
                read_traffic(self._memory, slot, user.traffic)
        else:
            # Its user may get another one.
            self._left.set_aside[identity.session, identity.user] = identity, slot
            self._records.keep_until_recorded(slot)
        connection_id = identity.connection_id
        if same and connection_id and not user.connection_id and connection_id not in session.players:
            user.set_connection_id(connection_id)

    def _restore(self, user: User, identity: Identity, slot: int) -> None:
        if identity.game != layout.game_of(user.session.session_id):
            self._give_up_binding(identity, slot)
            return
        # What the forwarding thread counted there is not in the account yet.
        if user.traffic is None:
            user.traffic = Traffic()
        read_traffic(self._memory, slot, user.traffic)
        address = self._address_to_restore(user, identity)
        if address is None:
            self._records.free(slot)
            self._records.account(user)
            return
        self._records.kept[identity.key] = slot
        endpoint = self._endpoints[identity.endpoint]
        self._table.restore(
            user,
            endpoint,
            address,
            connection_id=identity.connection_id,
            now=self._now(),
            undecided=identity.undecided,
            local=local_from(identity),
        )
        self.restored += 1

    def _address_to_restore(self, user: User, identity: Identity) -> Address | None:
        """Where it was bound; None if it must not be bound there now."""
        port, session = Port(identity.port), user.session
        holder = session.players.get(identity.connection_id, user) if port is Port.CLIENT else user
        taken = user.binding_on(port) is not None or holder is not user
        if taken or (port is Port.SERVER and (session.host is not None or not self._table.may_host(user))):
            return None
        if identity.endpoint == layout.NOWHERE or self._now() >= self._until:
            return None
        address = unpack_address(identity)
        # The settings and the session may say otherwise by now.
        limits = self._table.limits
        refused = (limits.pin_ip and address[0] != user.ip_address) or limits.denies(address[0])
        return None if refused else address

    def _goes_on(self, session: Session, span: bytes) -> bool:
        spans = self._records.spans
        if spans is None:
            return True
        if (session.token, span) in self._given_up:
            return False
        goes_on = self._gone_on.get((session, span))
        if goes_on is None:
            goes_on = spans.goes_on(session, span, self._left.counts.get((session.token, span), Traffic()))
            self._gone_on[session, span] = goes_on
        return goes_on

    def _give_up_binding(self, identity: Identity, slot: int) -> None:
        """What was counted for it goes to its user's account, if that is still there."""
        traffic = Traffic()
        read_traffic(self._memory, slot, traffic)
        self.count_left(identity.session, identity.user, traffic)
        self._records.free(slot)

    def count_left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        """See `KeptCounts.count_left`."""
        account = self._left.account_of(session_token, user_token)
        if account:
            self._records.add_counts(account, traffic)

    def _add_to_session(self, identity: Identity, slot: int) -> bool:
        """Adds the counts of a user who is no longer in a session to that session. False if it is gone too."""
        session = self._table.by_token.get(identity.session)
        if session is None or identity.game != layout.game_of(session.session_id):
            return False
        if not self._goes_on(session, identity.ip):
            return False
        if session.revoked_traffic is None:
            session.revoked_traffic = Traffic()
        read_traffic(self._memory, slot, session.revoked_traffic)
        # First, so that a process that ends between the two leaves nothing that would be counted twice.
        self._records.free(slot)
        self._records.account_revoked(session)
        return True

    def finish(self) -> None:
        """As `finishing`, at once."""
        for _ in self.finishing():
            pass

    def finishing(self) -> Iterator[None]:
        """The table is complete: discards what it does not name, but for revoked users' counts in its sessions.

        Pauses after each record. Between the steps the table may change, and a user who is authorized meanwhile gets
        back what is still there.
        """
        self._open = False
        while self._left.bindings:
            for identity, slot in self._left.bindings.popitem()[1]:
                self._give_up_binding(identity, slot)
                yield
        for identity, slot in self._left.take_counted():
            if not self._add_to_session(identity, slot):
                self._given_up.setdefault((identity.session, identity.ip), []).append(slot)
            yield
        for (_, span), slots in self._given_up.items():
            self._give_up(span, slots)
            yield
        self._table.followers.unsubscribe(self)
        self._given_up.clear()
        self._left.counts.clear()
        self._gone_on.clear()
        if self.restored:
            _log.info("goes on with what was bound before", bindings=self.restored)

    def _give_up(self, span: bytes, slots: list[int]) -> None:
        """Accounts of one session."""
        if self._records.spans is None:
            for slot in slots:
                self._records.free(slot)
            return
        counts = Traffic()
        for slot in slots:
            read_traffic(self._memory, slot, counts)
            self._records.keep_until_recorded(slot)
        self._records.spans.gone(span, counts, Accounts(slots, self._records))
