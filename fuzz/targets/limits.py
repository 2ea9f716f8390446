"""Datagrams at a relay with tight limits, look-ups and sockets that do not take everything.

What its buckets and bounds let through depends on time, so no naive relay says what should become of each datagram;
but something holds whatever they let through.
"""

from collections import Counter

from fuzz.figures import Done
from fuzz.reader import Reader
from fuzz.structure import check_table
from fuzz.targets.datagrams import ADDRESSES, ENDPOINTS, SESSIONS, USERS
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.limits import Limits
from relayd.core.lookups import Lookups
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import DATA, PING, STATE_DATAGRAM, Port, State, encode_ping

UNIT = "datagrams"

_MOST_LOOKUPS = 4
_MOST_DATAGRAMS = 400
_REFUSALS_PER_SECOND = 3


class _Relay:
    def __init__(self) -> None:
        limits = Limits(
            user_datagrams_per_second=2,
            host_datagrams_per_second=3,
            session_datagrams_per_second=5,
            guesses_per_second=3,
            guesses_per_source_per_second=2,
            refusals_per_second=_REFUSALS_PER_SECOND,
            refusals_per_source_per_second=2,
            max_bound_users=4,
            user_timeout=5,
            session_idle_timeout=9,
        )
        self.now = 0.0
        self.first_refused_at: float | None = None
        self.refusals = 0
        self.datagrams = self.checks = 0
        self._ids = 0
        self.table = Table(limits, self._new_connection_id)
        self.lookups = Lookups(lambda: None, most=_MOST_LOOKUPS)
        self.engine = Engine(self.table, self.lookups)

    def _new_connection_id(self) -> int:
        """Few, so that some come twice."""
        self._ids += 1
        return 1 + self._ids * 5 % 7

    def apply(self, who: int) -> None:
        """The sessions of these bits."""
        users = tuple(UserSpec(user, None) for number, user in enumerate(USERS) if who >> number & 1)
        specs = [
            SessionSpec(str(index), token, users) for index, token in enumerate(SESSIONS[:2]) if who >> 6 + index & 1
        ]
        self.table.apply(Snapshot.of(specs), self.now)

    def answer_lookups(self) -> None:
        """The control plane knows none of them."""
        self.lookups.answered(self.lookups.asked(), self.now)

    def deliver(self, endpoint: Endpoint, data: bytes, source: Address, taken: Verdict | None) -> None:
        """Brings a datagram, and checks what comes of it.

        Args:
            endpoint: where to.
            data: the datagram.
            source: where from.
            taken: why the kernel takes no answer now; None while it does.
        """
        self.datagrams += 1
        counters = self.engine.counters
        before = sum(map(sum, counters.datagrams)), sum(map(sum, counters.bytes))
        told_before = sum(map(sum, counters.refusals_told))
        used_before = self._used()
        action = self.engine.handle(endpoint, data, source, self.now)
        self._only_to_whom_it_belongs(endpoint, data, source, action)
        if taken is not None and action.endpoint is not None:
            self.engine.unsent(endpoint, len(data), action, taken)
        assert (sum(map(sum, counters.datagrams)), sum(map(sum, counters.bytes))) == (
            before[0] + 1,
            before[1] + len(data),
        )
        counts = action.verdict is Verdict.FORWARDED and taken is None
        assert self._used() == (used_before[0] + counts, used_before[1] + counts * len(data))
        self.refusals += max(0, sum(map(sum, counters.refusals_told)) - told_before)
        if self.refusals:
            if self.first_refused_at is None:
                self.first_refused_at = self.now
            assert self.refusals <= _REFUSALS_PER_SECOND * (1 + self.now - self.first_refused_at) + 1e-6
        self.check()

    def _used(self) -> tuple[int, int]:
        """Datagrams and bytes that all sessions have forwarded."""
        all_of_it = [session.traffic() for session in self.table.sessions.values()]
        return (
            sum(one.to_host_datagrams + one.to_player_datagrams for one in all_of_it),
            sum(one.to_host_bytes + one.to_player_bytes for one in all_of_it),
        )

    def _only_to_whom_it_belongs(self, endpoint: Endpoint, data: bytes, source: Address, action: Action) -> None:
        assert len(action.datagram) <= len(data)
        assert bool(action.datagram) == (action.endpoint is not None)
        if action.verdict is not Verdict.FORWARDED:
            assert action.to in ((), source)
            assert action.endpoint in (None, endpoint)
            assert action.datagram == b"" or action.datagram in STATE_DATAGRAM.values()
            assert (action.datagram == STATE_DATAGRAM[State.VALID]) == (action.verdict is Verdict.ANSWERED)
            return
        session = self.table.by_token[int.from_bytes(data[4:8], "little")]
        sender = session.users[int.from_bytes(data[:4], "little")].binding_on(endpoint.port)
        assert sender is not None
        assert (sender.endpoint, sender.address) == (endpoint, source)
        receivers = [user.binding_on(Port(1 - endpoint.port)) for user in session.users.values()]
        assert (action.endpoint, action.to) in [(one.endpoint, one.address) for one in receivers if one is not None]

    def check(self) -> None:
        """What always holds."""
        self.checks += 1
        assert len(self.lookups.asked()) <= _MOST_LOOKUPS
        assert sum(self.table.bound) <= self.table.limits.max_bound_users
        check_table(self.table)


def check(data: bytes) -> Done:
    """Raises if anything that always holds does not. Returns the verdicts of these datagrams."""
    read = Reader(data)
    relay = _Relay()
    relay.apply(read.number())
    while read.left and relay.datagrams < _MOST_DATAGRAMS:
        operation = read.number()
        if operation < 200:
            endpoint, source = ENDPOINTS[operation % 4], ADDRESSES[(operation >> 2) % len(ADDRESSES)]
            who = read.number()
            datagram = encode_ping(USERS[who % 4], SESSIONS[(who >> 2) % 3])[:8]
            what = read.number()
            datagram += bytes((PING,)) if what < 100 else bytes((DATA,)) + read.take(what % 16)
            lost = (Verdict.SEND_QUEUE_FULL, Verdict.SEND_FAILED)[what % 2] if what % 8 == 7 else None
            relay.deliver(endpoint, datagram, source, lost)
        elif operation < 230:
            relay.now += read.number() / 16
            relay.table.expire(relay.now, read.number())
        elif operation < 245:
            relay.apply(read.number())
        elif operation < 250:
            relay.engine.draining = not relay.engine.draining
        else:
            relay.answer_lookups()
        relay.check()
    counted = relay.engine.counters.datagrams
    assert sum(map(sum, counted)) == relay.datagrams
    assert all(counted[port][verdict] >= 0 for port in Port for verdict in Verdict)
    verdicts = {verdict.label: sum(counted[port][verdict] for port in Port) for verdict in Verdict}
    return Done(Counter(verdicts), relay.checks)
