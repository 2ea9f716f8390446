"""What the protocol says a relay does, in the plainest way: lists, and a look at all of it every time.

Rates are kept here as vessels that drain, where the engines keep due times: the two ways come to the same where times
are exact in a double, as those of tests are.
"""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.desired import Change, SessionSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port

ERROR, INVALID, SESSION_TIMEOUT, CHECKING, VALID = 5, 3, 4, 1, 2
TOMBSTONE_SECONDS = TRIED_SECONDS = 60
FAMILIAR = 4
SILENT_SECONDS, TO_SILENT_PER_SECOND = 5, 100
PROBATION_SECONDS, CONTESTED_SECONDS, MOST_PLACES = 10, 60, 4
DOUBT_SECONDS, MOST_DOUBTED = 1, 16
PERSISTENT_SECONDS, PAUSE_SECONDS, TRIED_PER_SECOND = 2.5, 3, 20


class Vessel:
    """Holds what came in one second at the rate, and drains at the rate."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._filled = 0.0
        self._at = 0.0

    def level(self, now: float) -> float:
        return max(0.0, self._filled - (now - self._at) * self.rate)

    def has_room(self, amount: float, now: float) -> bool:
        return self.level(now) + amount <= self.rate

    def fill(self, amount: float, now: float, most: float = float("inf")) -> None:
        self._filled, self._at = min(self.level(now) + amount, most), now

    def take(self, now: float) -> bool:
        """Lets one in if there is room."""
        if not self.has_room(1, now):
            return False
        self.fill(1, now)
        return True


class NaiveRate:
    """What somebody may send: so many datagrams and so many bytes a second; 0 is no bound."""

    def __init__(self, datagrams: int, size_bytes: int) -> None:
        self.datagrams, self.bytes = Vessel(datagrams), Vessel(size_bytes)

    def take(self, size_bytes: int, now: float) -> bool:
        amounts = [(one, by) for one, by in ((self.datagrams, 1), (self.bytes, size_bytes)) if one.rate]
        if not all(vessel.has_room(by, now) for vessel, by in amounts):
            return False
        for vessel, by in amounts:
            vessel.fill(by, now)
        return True


class NaiveSource:
    """What is remembered of where datagrams come from."""

    def __init__(self, network: str, rate: float) -> None:
        self.network = network
        self.vessel = Vessel(rate)


def network(ip: str) -> str:
    """Whoever has one IPv6 address has all of its /64."""
    return str(ipaddress.ip_network(f"{ip}/64", strict=False)) if ":" in ip else ip


def is_nobodys(ip: str) -> bool:
    """Whether no host can have this address."""
    address = ipaddress.ip_address(ip)
    if isinstance(address, ipaddress.IPv6Address):
        return address.is_multicast or address.is_unspecified
    # Multicast, what is reserved behind it with broadcast at its end, and "this network".
    return address.packed[0] == 0 or address.packed[0] >= 224


@dataclass
class NaiveSession:
    spec: SessionSpec
    empty_since: float
    rate: NaiveRate
    guesses: Vessel
    strangers: int = 0
    """Datagrams that named it and came from where nobody is bound who was let in."""
    revoked_at: dict[int, float] = field(default_factory=dict)
    contested_at: dict[int, float] = field(default_factory=dict)
    """User → when it was heard at a place that it had moved from."""
    places: dict[int, list[str]] = field(default_factory=dict)
    """User → IP addresses it was bound at, each once, the last one last."""
    held_back: dict[tuple[int, Port, str], list[tuple[float, int]]] = field(default_factory=dict)
    """By user, port and IP address: when each datagram came, and how many strangers had been heard by then."""
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
    rate: NaiveRate
    to_silent: Vessel = field(default_factory=lambda: Vessel(TO_SILENT_PER_SECOND))
    undecided: bool = False
    moved_at: float = 0
    before: list[tuple[tuple[Endpoint, Address], int]] = field(default_factory=list)
    """Where it was before it moved, and its connection id there; none if it did not, or for good."""
    doubted: list[tuple[float, tuple[Endpoint, Address]]] = field(default_factory=list)
    """When other users came to where it was, and where that was."""


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
    """The relay.

    Args:
        limits: its limits.
        most_sources: how many sources of guesses, and of refusals, it remembers; of more, the one first heard goes.
    """

    def __init__(self, limits: Limits, most_sources: int = 10_000) -> None:
        self.limits = limits
        self.most_sources = most_sources
        self.own_ports: Collection[int] = ()
        self.own_addresses: Collection[str] = ()
        self.relays: Collection[Address] = ()
        self.guessing: list[NaiveSource] = []
        self.tried: dict[tuple[str, int, int], float] = {}
        """Network, session and wrong user token → when it was last heard."""
        self.tried_above: dict[tuple[str, int, int], float] = {}
        """The same of those that were above a rate."""
        self.told: list[NaiveSource] = []
        self.told_in_all = Vessel(limits.refusals_per_second)
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
            limits = self.limits
            rate = NaiveRate(limits.session_datagrams_per_second, limits.session_bytes_per_second)
            self.sessions[spec.session_id] = NaiveSession(spec, now, rate, Vessel(limits.guesses_per_second))
            self.ended_at.pop(spec.token, None)
            return
        before = {user.token for user in session.spec.users}
        session.spec = spec
        users = {user.token for user in spec.users}
        for gone in before - users:
            session.revoked_at[gone] = now
            session.places.pop(gone, None)
            session.contested_at.pop(gone, None)
            session.held_back = {key: times for key, times in session.held_back.items() if key[0] != gone}
        for binding in self.in_session(spec.session_id):
            if binding.user not in users:
                self.unbind(binding, now)
        for key in list(self.connection_ids):
            if key[0] == spec.session_id and key[1] not in users:
                self._retire(key)
        for binding in self.in_session(spec.session_id):
            may_host = self.limits.host_policy != "strict" or binding.user == spec.users[0].token
            if binding.endpoint.port is Port.SERVER and not may_host:
                self.unbind(binding, now)

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

    def leave_relays(self, relays: Collection[Address], now: float) -> None:
        self.relays = relays
        for binding in list(self.bindings):
            if binding.address[:2] in relays:
                self.unbind(binding, now)

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
            if not self.may_be_told(source[0], now):
                return Expected(verdict)
            return Expected(verdict, endpoint, source, bytes((1, state)))

        found = [session for session in self.sessions.values() if session.spec.token == token]
        ips = {known.token: known.ip_address for known in found[0].spec.users} if found else {}
        if user not in ips:
            if self.is_bad(source):
                return Expected(Verdict.BAD_SOURCE)
            if not found and token in self.ended_at and now - self.ended_at[token] < TOMBSTONE_SECONDS:
                return refused(Verdict.SESSION_ENDED, SESSION_TIMEOUT)
            if found and now - found[0].revoked_at.get(user, -TOMBSTONE_SECONDS) < TOMBSTONE_SECONDS:
                return refused(Verdict.UNKNOWN_PAIR, INVALID)
            if found and not self.note_guess(found[0], user, source[0], now):
                return Expected(Verdict.UNKNOWN_PAIR)
            return refused(Verdict.UNKNOWN_PAIR, INVALID if self.loaded else CHECKING)
        session_id = found[0].spec.session_id
        mine = [one for one in self.in_session(session_id) if one.user == user and one.endpoint.port is port]
        here = [one for one in mine if one.address == source and one.endpoint == endpoint]
        if not here:
            if self.is_bad(source):
                return Expected(Verdict.BAD_SOURCE)
            familiar = {ips[user], *found[0].places.get(user, [])[-FAMILIAR:]}
            searched = source[0] not in familiar and self.is_searched(found[0], source[0], now)
            if searched and not self.persists(found[0], (user, port, source[0]), now):
                found[0].strangers += 1
                return Expected(Verdict.GUESS_LIMITED)
            if self.limits.pin_ip and source[0] != ips[user]:
                return refused(Verdict.ADDRESS_REFUSED, ERROR)
            declared = found[0].spec.users[0].token == user
            if port is Port.SERVER and self.limits.host_policy == "strict" and not declared:
                return refused(Verdict.HOST_CONFLICT, ERROR)
            named, is_named = source[0] == ips[user], bool(mine) and mine[0].address[0] == ips[user]
            on_probation = bool(mine) and now - mine[0].moved_at < PROBATION_SECONDS
            known = [place for place, _ in mine[0].before] if on_probation else []
            returns = (endpoint, source) in known
            at_once = returns or (named and not is_named)
            contested = now - found[0].contested_at.get(user, -CONTESTED_SECONDS) < CONTESTED_SECONDS
            least = SILENT_SECONDS if contested else self.limits.rebind_after
            if mine and not at_once and now - mine[0].last_seen < least:
                return Expected(Verdict.ADDRESS_CONFLICT)
            hosts = [one for one in self.in_session(session_id) if one.endpoint.port is port is Port.SERVER]
            if not mine:
                first_come = self.limits.host_policy == "any" or not declared
                if hosts and first_come and now - hosts[0].last_seen < self.limits.host_timeout:
                    return refused(Verdict.HOST_CONFLICT, ERROR)
                if self.draining and not self.in_session(session_id):
                    return refused(Verdict.DRAINING, ERROR)
                limit = self.limits.max_bound_users
                if limit and not hosts and len(self.bindings) >= limit:
                    return refused(Verdict.RELAY_FULL, ERROR)
            self.bindings = [one for one in self.bindings if one not in mine and one not in hosts]
            rate = mine[0].rate if mine else self.rate_of(port)
            here = [NaiveBinding(session_id, user, endpoint, source, now, rate)]
            if port is Port.CLIENT:
                there = [one for one in self.bindings if (one.endpoint, one.address) == (endpoint, source)]
                for one in there[-MOST_DOUBTED:]:
                    one.doubted.append((now, (endpoint, source)))
            self.bindings += here
            here[0].doubted = mine[0].doubted if mine else []
            key = (session_id, user)
            if returns:
                found[0].contested_at[user] = now
                at = known.index((endpoint, source))
                id_there = mine[0].before[at][1]
                here[0].before, here[0].moved_at = mine[0].before[:at], mine[0].moved_at
            elif mine and not named:
                left = (mine[0].endpoint, mine[0].address), self.connection_ids.get(key, 0)
                here[0].before = [*(mine[0].before if on_probation else []), left][-MOST_PLACES:]
                here[0].moved_at = now
            places = found[0].places.setdefault(user, [])
            places[:] = [*(ip for ip in places if ip != source[0]), source[0]]
            found[0].held_back = {key: times for key, times in found[0].held_back.items() if key[0] != user}
            if port is Port.CLIENT and not returns:
                self._at_new_address(here[0])
            elif port is Port.CLIENT and self.connection_ids.get(key) != id_there:
                self._retire(key)
                self.connection_ids[key] = id_there
        here[0].last_seen = now
        # The user's first: what is above it is no burden to the others in the session.
        if not here[0].rate.take(size, now) or not found[0].rate.take(size, now):
            return Expected(Verdict.RATE_LIMITED)
        if data[8] == 1:
            return Expected(Verdict.ANSWERED, endpoint, source, bytes((1, VALID)))
        expected = (
            self._to_player(found[0], data, now) if port is Port.SERVER else self._to_host(found[0], here[0], data, now)
        )
        return expected or Expected(Verdict.RATE_LIMITED)

    def _spares(self, receiver: NaiveBinding, now: float) -> bool:
        """Whether a receiver that may not be there has been sent enough."""
        return now - receiver.last_seen >= SILENT_SECONDS and not receiver.to_silent.take(now)

    def sent(self, expected: Expected) -> bytes:
        """The datagram that is expected, once the id in it is known."""
        if expected.connection_id_of is None:
            return expected.before_id
        connection_id = self.connection_ids[expected.connection_id_of].to_bytes(4, "little")
        return expected.before_id + connection_id + expected.after_id

    def rate_of(self, port: Port) -> NaiveRate:
        limits = self.limits
        if port is Port.SERVER:
            return NaiveRate(limits.host_datagrams_per_second, limits.host_bytes_per_second)
        return NaiveRate(limits.user_datagrams_per_second, limits.user_bytes_per_second)

    def is_bad(self, source: Address) -> bool:
        ip, udp_port = source[:2]
        own = {*self.own_addresses}
        if "127.0.0.1" in own and ip.startswith("127."):
            own.add(ip)
        denied = any(ipaddress.ip_address(ip) in network for network in self.limits.denied_networks)
        own_or_of_fleet = (udp_port in self.own_ports and ip in own) or source[:2] in self.relays
        return udp_port == 0 or own_or_of_fleet or is_nobodys(ip) or denied

    def may_be_told(self, ip: str, now: float) -> bool:
        """Whether a refusal is one of those that are told."""
        for one in self.told:
            if one.network == network(ip):
                return one.vessel.take(now) and self.told_in_all.take(now)
        if not self.told_in_all.take(now):
            return False
        self.told = self._with_room(self.told)
        self.told.append(NaiveSource(network(ip), self.limits.refusals_per_source_per_second))
        return self.told[-1].vessel.take(now)

    def note_guess(self, session: NaiveSession, user: int, ip: str, now: float) -> bool:
        """Counts a wrong user token, unless it is no new one; whether there are so few that it may be told."""
        session.strangers += 1
        guess = network(ip), session.spec.token, user
        if now - self.tried.get(guess, -TRIED_SECONDS) < TRIED_SECONDS:
            self.tried[guess] = now
            return True
        known = [one for one in self.guessing if one.network == network(ip)]
        too_many_here = bool(known) and known[0].vessel.level(now) > known[0].vessel.rate
        too_many = session.guesses.level(now) > session.guesses.rate
        again = now - self.tried_above.get(guess, -TRIED_SECONDS) < TRIED_SECONDS
        if too_many_here or too_many:
            self.tried_above[guess] = now
            if again:
                return False
        if known:
            _guess(known[0].vessel, now)
        if not too_many_here:
            _guess(session.guesses, now)
        if too_many_here or too_many:
            return False
        if not known:
            self.guessing = self._with_room(self.guessing)
            self.guessing.append(NaiveSource(network(ip), self.limits.guesses_per_source_per_second))
            _guess(self.guessing[-1].vessel, now)
        self.tried[guess] = now
        return True

    def is_searched(self, session: NaiveSession, ip: str, now: float) -> bool:
        """Whether tokens are guessed too often, there or from here."""
        here = [one.vessel for one in self.guessing if one.network == network(ip)]
        return any(vessel.level(now) > vessel.rate for vessel in (*here, session.guesses))

    def persists(self, session: NaiveSession, key: tuple[int, Port, str], now: float) -> bool:
        """Whether a right token has come for long enough, and often enough beside all strangers there are."""
        came = session.held_back.setdefault(key, [])
        if came and now - came[-1][0] > PAUSE_SECONDS:
            came.clear()
        came.append((now, session.strangers))
        lasted, strangers = now - came[0][0], session.strangers - came[0][1]
        return lasted >= PERSISTENT_SECONDS and strangers <= (len(came) - 1) * TRIED_PER_SECOND * lasted

    def _with_room(self, sources: list[NaiveSource]) -> list[NaiveSource]:
        return sources[1:] if len(sources) >= self.most_sources else sources

    def _to_player(self, session: NaiveSession, data: bytes, now: float) -> Expected | None:
        connection_id = int.from_bytes(data[9:13], "little", signed=True)
        for binding in self.in_session(session.spec.session_id):
            key = (binding.session_id, binding.user)
            if binding.endpoint.port is Port.CLIENT and self.connection_ids.get(key) == connection_id:
                if self._spares(binding, now):
                    return None
                session.forwarded["to_player"] += 1
                session.forwarded["to_player_bytes"] += len(data)
                return Expected(Verdict.FORWARDED, binding.endpoint, binding.address, b"\x02" + data[13:])
        return Expected(Verdict.UNKNOWN_CONNECTION)

    def _to_host(self, session: NaiveSession, player: NaiveBinding, data: bytes, now: float) -> Expected | None:
        key = (player.session_id, player.user)
        if player.undecided and data[10:14] == b"\0\0\0\0":
            self.to_be_renewed.add(key)
        player.undecided = False
        for binding in self.in_session(player.session_id):
            if binding.endpoint.port is Port.SERVER:
                if self._spares(binding, now):
                    return None
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

    def expire_all(self, now: float) -> None:
        """Ends all that is due, where nobody says in which order."""
        for binding in list(self.bindings):
            if self.binding_due(binding) <= now:
                self.unbind(binding, now)
        for session_id in list(self.sessions):
            due = self.idle_due(session_id)
            if due is not None and due <= now:
                self.end_idle(session_id, now)

    def in_session(self, session_id: str) -> list[NaiveBinding]:
        return [binding for binding in self.bindings if binding.session_id == session_id]

    def binding_due(self, binding: NaiveBinding) -> float:
        place = binding.endpoint, binding.address
        doubts = [at + DOUBT_SECONDS for at, where in binding.doubted if at >= binding.last_seen and where == place]
        return min([binding.last_seen + self.limits.user_timeout, *doubts])

    def idle_due(self, session_id: str) -> float | None:
        if not self.limits.session_idle_timeout or self.in_session(session_id):
            return None
        return self.sessions[session_id].empty_since + self.limits.session_idle_timeout

    def deadlines(self) -> list[float]:
        idle = [due for due in map(self.idle_due, self.sessions) if due is not None]
        return idle + [self.binding_due(binding) for binding in self.bindings]


def _guess(vessel: Vessel, now: float) -> None:
    """One more: what is above the rate counts too, up to as much again."""
    vessel.fill(1, now, most=2 * vessel.rate)
