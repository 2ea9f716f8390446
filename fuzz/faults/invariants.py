"""What is checked after every step, against a plain book of all that happened."""

from collections import deque
from typing import NamedTuple

from fuzz.faults.budgets import FROM_ITS_PLACE, Arrived, Budgets
from fuzz.faults.network import Network
from fuzz.structure import check_session, check_table
from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.host_policy import HostPolicy
from relayd.core.limits import Limits
from relayd.core.probation import Place
from relayd.core.session import Binding, User
from relayd.core.table import TOMBSTONE_SECONDS, Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from tests.support.naive_relay import MOST_PLACES, PROBATION_SECONDS

_SENT = (Verdict.FORWARDED, Verdict.ANSWERED)
_ROUNDING_SECONDS = 0.001

_Pair = tuple[int, int]
"""Session and user token."""


class _Moves(NamedTuple):
    """Of somebody who is bound."""

    place: Place
    """Where it is."""
    before: list[Place]
    """Where it was before its moves, the oldest first."""
    at: float
    """When it moved last, or was bound."""


class Ledger:
    """The book, over all lives of a relay.

    Args:
        limits: the relay's.
        network: knows whose each address is.
    """

    def __init__(self, limits: Limits, network: Network) -> None:
        self.checks = 0
        self.verdicts = [[0] * len(Verdict) for _ in Port]
        """Of all lives, whether their counts were kept or not."""
        self._limits = limits
        self._network = network
        self._datagrams = [[0] * len(Verdict) for _ in Port]
        self._bytes = [[0] * len(Verdict) for _ in Port]
        self._traffic: dict[_Pair, list[int]] = {}
        """Datagrams to the host, and to the player."""
        self._ids: dict[_Pair, int] = {}
        self._former_ids: dict[_Pair, set[int]] = {}
        """All that a user ever had."""
        self._heard: dict[tuple[_Pair, Port], float] = {}
        """When somebody who is bound was last heard."""
        self._unbound_at: deque[float] = deque()
        self._ended_at: deque[float] = deque()
        self._changed = False
        self._budgets = Budgets(limits)
        self._arrived: Arrived | None = None
        """The datagram that is being judged."""
        self._moves: dict[tuple[_Pair, Port], _Moves] = {}
        """Of those who are bound."""

    # What happens

    def relay_started(self, kept: bool) -> None:
        """A relay begins, with what the one before knew or without."""
        self._unbound_at.clear()
        self._budgets = Budgets(self._limits)
        self._moves.clear()
        if not kept:
            self._datagrams = [[0] * len(Verdict) for _ in Port]
            self._bytes = [[0] * len(Verdict) for _ in Port]
            self._traffic.clear()
            self._ids.clear()
            self._heard.clear()

    def restored(self, table: Table) -> None:
        """All has come back that will: of those who are still in their session, everything."""
        for pair in [*self._traffic, *self._ids]:
            session = table.by_token.get(pair[0])
            user = session.users.get(pair[1]) if session is not None else None
            if user is None:
                self._traffic.pop(pair, None)
                self._ids.pop(pair, None)
                continue
            assert user.connection_id == self._ids.get(pair, 0), "a connection id changed over a restart"
            self._check_traffic(user)
        self.check(table)

    def revoked(self, user: User) -> None:
        """A user is no longer in a session: if it comes back, it starts from nothing."""
        pair = _pair(user)
        self._traffic.pop(pair, None)
        self._ids.pop(pair, None)
        self._budgets.revoked(user)

    def changed(self, event: Event, now: float) -> None:
        """The table has changed."""
        self._changed = True
        self._budgets.changed(event, now)
        if event.kind in (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE):
            self._ended_at.append(now)
        binding = event.binding
        if binding is None:
            return
        heard = self._heard.get((_pair(binding.user), binding.port))
        least = self._least_silence(event, binding)
        if heard is not None and least is not None:
            assert now - heard >= least, "somebody lost its place too soon"
        if event.kind in UNBOUND:
            self._unbound_at.append(now)
        self._note_move(event.kind, binding, now)
        if binding.port is Port.CLIENT and binding.user.token in event.session.users:
            self._check_id(event.kind, binding.user)
            self._former_ids.setdefault(_pair(binding.user), set()).add(binding.user.connection_id)
            self._ids[_pair(binding.user)] = binding.user.connection_id

    def _note_move(self, kind: EventKind, binding: Binding, now: float) -> None:
        key = _pair(binding.user), binding.port
        if kind is EventKind.USER_BOUND:
            self._moves[key] = _Moves(binding.place, [], now)
        elif kind is EventKind.USER_MOVED:
            known = self._moves[key]
            before = known.before if now - known.at < PROBATION_SECONDS else []
            self._moves[key] = _Moves(binding.place, [*before, known.place][-MOST_PLACES:], now)
        elif kind is EventKind.USER_RETURNED:
            known = self._moves[key]
            assert now - known.at < PROBATION_SECONDS, "a move was taken back that had long been good"
            self._moves[key] = _Moves(binding.place, known.before[: known.before.index(binding.place)], known.at)

    def arrives(self, table: Table, endpoint: Endpoint, data: bytes, source: Address, now: float) -> None:
        """A datagram is about to get its verdict."""
        self._arrived = self._budgets.arrives(table, endpoint, data, source, now)

    def _least_silence(self, event: Event, binding: Binding) -> float | None:
        """How long somebody whose place another one has now must have been silent; None where that does not matter."""
        if event.kind is EventKind.USER_MOVED and not binding.user.is_named(binding.address[0]):
            return self._limits.rebind_after
        declared = event.session.declared_host
        by_right = self._limits.host_policy is not HostPolicy.ANY and binding.user.token != declared
        return self._limits.host_timeout if event.kind is EventKind.HOST_REPLACED and not by_right else None

    def handled(
        self,
        table: Table,
        engine: Engine,
        endpoint: Endpoint,
        data: bytes,
        source: Address,
        now: float,
        action: Action,
        sent: bool,
    ) -> None:
        """A datagram got its verdict."""
        self.checks += 1
        verdict = action.verdict
        if action.endpoint is not None:
            self._check_receiver(endpoint, data, source, action)
            if not sent and verdict in _SENT:
                verdict = Verdict.SEND_QUEUE_FULL
        port = endpoint.port
        assert self._arrived is not None
        self._budgets.judged(self._arrived, endpoint, data, source, now, action)
        if action.verdict is Verdict.ADDRESS_CONFLICT:
            moves = self._moves[_pair_in(data), port]
            on_probation = now - moves.at < PROBATION_SECONDS
            assert not on_probation or Place(endpoint, source) not in moves.before, (
                "a player did not get back its place"
            )
        if action.verdict in FROM_ITS_PLACE:
            self._heard[_pair_in(data), port] = now
        self.verdicts[port][verdict] += 1
        self._datagrams[port][verdict] += 1
        self._bytes[port][verdict] += len(data)
        assert engine.counters.datagrams[port][verdict] == self._datagrams[port][verdict]
        assert engine.counters.bytes[port][verdict] == self._bytes[port][verdict]
        if action.player is not None:
            user = action.player.user
            counts = self._traffic.setdefault(_pair(user), [0, 0])
            counts[1 - port] += sent if port is Port.SERVER else 0
            counts[0] += sent if port is Port.CLIENT else 0
            self._check_traffic(user)
        session = table.by_token.get(int.from_bytes(data[4:8], "little"))
        if session is not None:
            check_session(session)
        if self._changed:
            self.check(table)

    def expired(self, table: Table, now: float) -> None:
        """Whatever was due is over."""
        latest = now + _ROUNDING_SECONDS
        deadline = table.next_deadline()
        assert deadline is None or deadline > now, "something is due and was not looked at"
        for session in table.sessions.values():
            for binding in session.bindings():
                assert table.presence.last_heard(binding) + self._limits.user_timeout > now - _ROUNDING_SECONDS, (
                    "still bound"
                )
            if not session.bound and self._limits.session_idle_timeout:
                assert session.empty_since + self._limits.session_idle_timeout > now - _ROUNDING_SECONDS, "still there"
        assert all(forgotten_at <= latest + TOMBSTONE_SECONDS for forgotten_at in table._tombstones.values())
        self.check(table)
        self._check_sizes(table, now)

    # What holds

    def check(self, table: Table) -> None:
        """What holds between any two steps."""
        self._changed = False
        self.checks += 1
        check_table(table)
        places = [
            (binding.endpoint, binding.address) for session in table.sessions.values() for binding in session.bindings()
        ]
        assert len(set(places)) == len(places), "two users are bound at one address"
        limit = self._limits.max_bound_users
        assert not limit or len(places) <= limit

    def _check_receiver(self, endpoint: Endpoint, data: bytes, source: Address, action: Action) -> None:
        assert 0 < len(action.datagram) <= len(data), "more left than came"
        if action.verdict is not Verdict.FORWARDED:
            assert (action.endpoint, action.to) == (endpoint, source), "a third party was answered"
            return
        sender, receiver = self._network.owner(source), self._network.owner(action.to)
        assert sender.session == receiver.session == int.from_bytes(data[4:8], "little"), "another session hears it"
        assert action.endpoint is not None
        assert action.endpoint.port is not endpoint.port
        assert action.player is not None
        player = sender if endpoint.port is Port.CLIENT else receiver
        assert action.player.user.token == player.user

    def _check_id(self, kind: EventKind, user: User) -> None:
        may_change = self._limits.connection_id_policy is ConnectionIdPolicy.PER_ADDRESS
        if kind is not EventKind.CONNECTION_RENEWED and not may_change:
            known = self._ids.get(_pair(user), user.connection_id)
            back = kind is EventKind.USER_RETURNED and user.connection_id in self._former_ids.get(_pair(user), ())
            assert back or user.connection_id == known, "a connection id changed without a reason"

    def _check_traffic(self, user: User) -> None:
        counts = self._traffic.get(_pair(user), [0, 0])
        there = user.traffic
        seen = [there.to_host_datagrams, there.to_player_datagrams] if there is not None else [0, 0]
        assert seen == counts, f"counted {seen} of {counts}"

    def _check_sizes(self, table: Table, now: float) -> None:
        """What still waits for its time, though it is over, is no more than what ended lately."""
        for happened, span in (
            (self._unbound_at, self._limits.user_timeout),
            (self._ended_at, max(TOMBSTONE_SECONDS, self._limits.session_idle_timeout)),
        ):
            while happened and happened[0] < now - span - 1.0:
                happened.popleft()
        assert len(table._silence) <= sum(table.bound) + len(self._unbound_at)
        assert len(table._idleness) <= len(table.sessions) + len(self._ended_at)
        assert len(table._tombstones) <= len(self._ended_at)


def _pair(user: User) -> _Pair:
    return user.session.token, user.token


def _pair_in(data: bytes) -> _Pair:
    return int.from_bytes(data[4:8], "little"), int.from_bytes(data[:4], "little")
