"""What the protocol says a relay does, in the plainest way: lists, and a look at all of it every time."""

from dataclasses import dataclass, field

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.desired import Change, SessionSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port

ERROR, INVALID, SESSION_TIMEOUT, CHECKING, VALID = 5, 3, 4, 1, 2


@dataclass
class NaiveSession:
    spec: SessionSpec
    empty_since: float
    forwarded: dict[str, int] = field(
        default_factory=lambda: {"to_host": 0, "to_host_bytes": 0, "to_player": 0, "to_player_bytes": 0}
    )


@dataclass
class NaiveBinding:
    session_id: str
    user: int
    endpoint: Endpoint
    address: Address
    last_seen: float
    undecided: bool = False


@dataclass
class Expected:
    """What should become of a datagram; `connection_id_of` is the player whose id stands in what is sent."""

    verdict: Verdict
    endpoint: Endpoint | None = None
    to: Address = ()
    before_id: bytes = b""
    connection_id_of: tuple[str, int] | None = None
    after_id: bytes = b""


class NaiveRelay:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.sessions: dict[str, NaiveSession] = {}
        self.bindings: list[NaiveBinding] = []
        self.ended_at: dict[int, float] = {}
        self.not_to_be_revived: dict[str, int] = {}
        self.connection_ids: dict[tuple[str, int], int] = {}
        self.to_be_renewed: set[tuple[str, int]] = set()
        self.retired: set[tuple[str, int]] = set()
        self.loaded = False
        self.draining = False

    # Sessions

    def wants(self, spec: SessionSpec) -> bool:
        return self.not_to_be_revived.get(spec.session_id) != spec.token

    def begin_snapshot(self, wanted: dict[str, SessionSpec]) -> None:
        for session_id, token in list(self.not_to_be_revived.items()):
            if session_id not in wanted or wanted[session_id].token != token:
                del self.not_to_be_revived[session_id]

    def apply(self, wanted: dict[str, SessionSpec], now: float) -> None:
        self.begin_snapshot(wanted)
        for session_id, session in list(self.sessions.items()):
            if session_id not in wanted or wanted[session_id].token != session.spec.token:
                self.remove(session_id, now)
        for spec in wanted.values():
            self.put(spec, now)
        self.loaded = True

    def contradicts(self, change: Change) -> bool:
        after = {key: session.spec.token for key, session in self.sessions.items() if key not in change.removals}
        after |= {spec.session_id: spec.token for spec in change.upserts}
        return len(set(after.values())) < len(after)

    def change(self, change: Change, now: float) -> None:
        for session_id in change.removals:
            self.not_to_be_revived.pop(session_id, None)
            self.remove(session_id, now)
        for spec in change.upserts:
            session = self.sessions.get(spec.session_id)
            if session is not None and session.spec.token != spec.token:
                self.remove(spec.session_id, now)
            if self.wants(spec):
                self.not_to_be_revived.pop(spec.session_id, None)
        for spec in change.upserts:
            self.put(spec, now)

    def put(self, spec: SessionSpec, now: float) -> None:
        if not self.wants(spec):
            return
        session = self.sessions.get(spec.session_id)
        if session is None:
            self.sessions[spec.session_id] = NaiveSession(spec, now)
            self.ended_at.pop(spec.token, None)
            return
        session.spec = spec
        users = {user.token for user in spec.users}
        for binding in self.in_session(spec.session_id):
            if binding.user not in users:
                self.unbind(binding, now)
        for key in list(self.connection_ids):
            if key[0] == spec.session_id and key[1] not in users:
                self._retire(key)

    def remove(self, session_id: str, now: float) -> None:
        session = self.sessions.pop(session_id, None)
        if session is None:
            return
        self.bindings = [binding for binding in self.bindings if binding.session_id != session_id]
        for key in list(self.connection_ids):
            if key[0] == session_id:
                self._retire(key)
        self.ended_at[session.spec.token] = now

    def end_idle(self, session_id: str, now: float) -> None:
        self.not_to_be_revived[session_id] = self.sessions[session_id].spec.token
        self.remove(session_id, now)

    def unbind(self, binding: NaiveBinding, now: float) -> None:
        self.bindings.remove(binding)
        session = self.sessions[binding.session_id]
        session.empty_since = max(session.empty_since, now, binding.last_seen)

    # Datagrams

    def receive(self, endpoint: Endpoint, data: bytes, source: Address, now: float) -> Expected:
        port, size = endpoint.port, len(data)
        if size < 9:
            return Expected(Verdict.TOO_SHORT)
        if size > 1200:
            return Expected(Verdict.TOO_LONG)
        if data[8] not in (1, 2):
            return Expected(Verdict.UNKNOWN_TYPE)
        if data[8] == 2 and port is Port.SERVER and size < 13:
            return Expected(Verdict.TOO_SHORT)
        if data[8] == 2 and size == (13 if port is Port.SERVER else 9):
            return Expected(Verdict.NO_PAYLOAD)
        user, token = int.from_bytes(data[0:4], "little"), int.from_bytes(data[4:8], "little")

        def refused(verdict: Verdict, state: int) -> Expected:
            return Expected(verdict, endpoint, source, bytes((1, state)))

        found = [session for session in self.sessions.values() if session.spec.token == token]
        if not found and token in self.ended_at and now - self.ended_at[token] < 60:
            return refused(Verdict.SESSION_ENDED, SESSION_TIMEOUT)
        ips = {known.token: known.ip_address for known in found[0].spec.users} if found else {}
        if user not in ips:
            return refused(Verdict.UNKNOWN_PAIR, INVALID if self.loaded else CHECKING)
        session_id = found[0].spec.session_id
        mine = [one for one in self.in_session(session_id) if one.user == user and one.endpoint.port is port]
        here = [one for one in mine if one.address == source and one.endpoint == endpoint]
        if not here:
            if self.limits.pin_ip and source[0] != ips[user]:
                return refused(Verdict.ADDRESS_REFUSED, ERROR)
            if mine and now - mine[0].last_seen < self.limits.rebind_after:
                return Expected(Verdict.ADDRESS_CONFLICT)
            hosts = [one for one in self.in_session(session_id) if one.endpoint.port is port is Port.SERVER]
            if not mine:
                if hosts and now - hosts[0].last_seen < self.limits.host_timeout:
                    return refused(Verdict.HOST_CONFLICT, ERROR)
                if self.draining and not self.in_session(session_id):
                    return refused(Verdict.DRAINING, ERROR)
                limit = self.limits.max_bound_users
                if limit and not hosts and len(self.bindings) >= limit:
                    return refused(Verdict.RELAY_FULL, ERROR)
            self.bindings = [one for one in self.bindings if one not in mine and one not in hosts]
            here = [NaiveBinding(session_id, user, endpoint, source, now)]
            self.bindings += here
            if port is Port.CLIENT:
                self._at_new_address(here[0])
        here[0].last_seen = now
        if data[8] == 1:
            return Expected(Verdict.ANSWERED, endpoint, source, bytes((1, VALID)))
        return self._to_player(found[0], data) if port is Port.SERVER else self._to_host(found[0], here[0], data)

    def _to_player(self, session: NaiveSession, data: bytes) -> Expected:
        connection_id = int.from_bytes(data[9:13], "little", signed=True)
        for binding in self.in_session(session.spec.session_id):
            key = (binding.session_id, binding.user)
            if binding.endpoint.port is Port.CLIENT and self.connection_ids.get(key) == connection_id:
                session.forwarded["to_player"] += 1
                session.forwarded["to_player_bytes"] += len(data)
                return Expected(Verdict.FORWARDED, binding.endpoint, binding.address, b"\x02" + data[13:])
        return Expected(Verdict.UNKNOWN_CONNECTION)

    def _to_host(self, session: NaiveSession, player: NaiveBinding, data: bytes) -> Expected:
        key = (player.session_id, player.user)
        if player.undecided and data[10:14] == b"\0\0\0\0":
            self.to_be_renewed.add(key)
        player.undecided = False
        for binding in self.in_session(player.session_id):
            if binding.endpoint.port is Port.SERVER:
                session.forwarded["to_host"] += 1
                session.forwarded["to_host_bytes"] += len(data)
                return Expected(Verdict.FORWARDED, binding.endpoint, binding.address, b"\x02", key, data[9:])
        return Expected(Verdict.NO_HOST)

    def _at_new_address(self, binding: NaiveBinding) -> None:
        key = (binding.session_id, binding.user)
        if key not in self.connection_ids or self.limits.connection_id_policy is ConnectionIdPolicy.PER_ADDRESS:
            self.to_be_renewed.add(key)
        elif self.limits.connection_id_policy is ConnectionIdPolicy.KCP:
            binding.undecided = True

    # Connection ids

    def learn_connection_id(self, key: tuple[str, int], given: int) -> None:
        """Takes over an id that the relay under test chose, after a look whether it might choose it."""
        if key not in self.to_be_renewed:
            assert self.connection_ids.get(key) == given, "a connection id changed without a reason"
            return
        self.to_be_renewed.remove(key)
        others = {one for other, one in self.connection_ids.items() if other[0] == key[0] and other != key}
        assert 0 < given < 1 << 31
        assert given not in others, "two players of a session share a connection id"
        assert given != self.connection_ids.get(key), "a connection id that should change was kept"
        self._retire(key)
        self.connection_ids[key] = given

    def _retire(self, key: tuple[str, int]) -> None:
        old = self.connection_ids.pop(key, None)
        if old is not None:
            self.retired.add((key[0], old))

    # Time

    def in_session(self, session_id: str) -> list[NaiveBinding]:
        return [binding for binding in self.bindings if binding.session_id == session_id]

    def binding_due(self, binding: NaiveBinding) -> float:
        return binding.last_seen + self.limits.user_timeout

    def idle_due(self, session_id: str) -> float | None:
        if not self.limits.session_idle_timeout or self.in_session(session_id):
            return None
        return self.sessions[session_id].empty_since + self.limits.session_idle_timeout

    def deadlines(self) -> list[float]:
        idle = [due for due in map(self.idle_due, self.sessions) if due is not None]
        return idle + [self.binding_due(binding) for binding in self.bindings]
