"""Datagrams from anywhere at a relay whose sessions, clock and settings change in between.

The first byte chooses the settings. Then follow operations, each one byte and its arguments: see `_OPERATIONS`. Every
verdict and every byte that goes out is compared with what the naive relay does.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from fuzz.figures import Done
from fuzz.reader import Reader
from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.limits import Limits
from relayd.core.wire import DATA, MAX_DATAGRAM_BYTES, PING, Port, encode_ping
from tests.support.naive_relay import NaiveBinding
from tests.support.twins import Twins

UNIT = "datagrams"

ENDPOINTS = (Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1), Endpoint(Port.SERVER, 2), Endpoint(Port.CLIENT, 3))
ADDRESSES: tuple[Address, ...] = (
    ("10.0.0.1", 1),
    ("10.0.0.1", 2),
    ("10.0.0.2", 1),
    ("2001:db8::1", 1, 0, 0),
    ("2001:db8::1", 1, 0, 3),
)
SESSION_IDS = ("a", "b", "c")
SESSIONS = (0xCAFEBABE, 102, 103)
USERS = (0x11223344, 1001, 0xEFCDAB89, 1002)
"""With those of tests/fixtures, so that what was recorded means something."""
_FIRST_CONNECTION_ID = 1001
_CONNECTION_IDS = (*range(_FIRST_CONNECTION_ID, _FIRST_CONNECTION_ID + 8), 0, -1)
_SECONDS = (0.25, 0.5, 1.0, 3.0, 7.75, 8.0, 20.0, 61.0)
_MOST_DATAGRAMS = 400
"""In one input: longer ones only make the fuzzer slower."""


class World:
    """The relays under test, what became of the datagrams they were sent, and how often they were compared."""

    def __init__(self, settings: int) -> None:
        limits = Limits(
            user_timeout=8,
            host_timeout=3,
            rebind_after=0.0 if settings & 1 else 0.5,
            session_idle_timeout=0.0 if settings & 2 else 20.0,
            pin_ip=settings & 28 == 28,
            max_bound_users=3 if settings & 28 == 24 else 0,
            connection_id_policy=list(ConnectionIdPolicy)[(settings >> 5) % len(ConnectionIdPolicy)],
            guesses_per_second=1_000_000,
            guesses_per_source_per_second=1_000_000,
            refusals_per_second=1_000_000,
            refusals_per_source_per_second=1_000_000,
        )
        self.twins = Twins(limits)
        self.datagrams = self.checks = 0
        self.verdicts: Counter[str] = Counter()

    def deliver(self, endpoint: Endpoint, datagram: bytes, source: Address) -> None:
        """Brings a datagram to both, which have to say the same."""
        self.datagrams += 1
        self.checks += 1
        self.verdicts[self.twins.deliver(endpoint, datagram, source).verdict.label] += 1

    def check(self) -> None:
        """Raises if there is anything that both do not have alike."""
        self.checks += 1
        self.twins.check()


def _specs(read: Reader) -> list[SessionSpec]:
    """Sessions by a byte of who is in them; at first, one with everybody."""
    chosen = read.number() or 0b1000_0000
    specs = []
    for index, session_id in enumerate(SESSION_IDS):
        if chosen >> (7 - index) & 1:
            absent = read.number()
            users = [
                UserSpec(user, ADDRESSES[number % 3][0])
                for number, user in enumerate(USERS)
                if not absent >> number & 1
            ]
            token = SESSIONS[(index + (chosen & 1)) % len(SESSIONS)]
            specs.append(SessionSpec(session_id, token, tuple(users)))
    return specs


class _Arrival(NamedTuple):
    endpoint: Endpoint
    source: Address

    @classmethod
    def read(cls, read: Reader) -> "_Arrival":
        where = read.number()
        return cls(ENDPOINTS[where % len(ENDPOINTS)], ADDRESSES[(where >> 2) % len(ADDRESSES)])


def _raw(world: World, read: Reader) -> None:
    """A datagram byte by byte, its length before it; one of 255 may go on with zeros, past the longest there is."""
    arrival = _Arrival.read(read)
    length = read.number()
    padding = bytes(MAX_DATAGRAM_BYTES - 200 + length) if length == 255 and read.number() & 1 else b""
    world.deliver(arrival.endpoint, read.take(length) + padding, arrival.source)


def _known(world: World, read: Reader) -> None:
    """A datagram of a pair that may be known, from anywhere."""
    arrival = _Arrival.read(read)
    who = read.number()
    user, session = USERS[who % len(USERS)], SESSIONS[(who >> 2) % len(SESSIONS)]
    world.deliver(arrival.endpoint, _datagram(arrival.endpoint, user, session, read), arrival.source)


def _bound(world: World, read: Reader) -> None:
    """A datagram of somebody who is bound, from where it is bound."""
    bindings = world.twins.naive.bindings
    if bindings:
        binding: NaiveBinding = read.pick(bindings)
        session = world.twins.naive.sessions[binding.session_id].spec.token
        world.deliver(binding.endpoint, _datagram(binding.endpoint, binding.user, session, read), binding.address)


def _datagram(endpoint: Endpoint, user: int, session: int, read: Reader) -> bytes:
    what = read.number()
    pair = encode_ping(user, session)[:8]
    if what % 4 == 0:
        return pair + bytes((PING,))
    connection_id = read.pick(_CONNECTION_IDS).to_bytes(4, "little", signed=True)
    payload = bytes((1, 0, 0, 0, 0)) if what % 4 == 1 else b""
    payload += read.take(what >> 4)
    return pair + bytes((DATA,)) + (connection_id if endpoint.port is Port.SERVER else b"") + payload


def _apply(world: World, read: Reader) -> None:
    specs = _specs(read)
    if not world.twins.reconciling:
        world.twins.apply(specs)


def _begin_to_reconcile(world: World, read: Reader) -> None:
    specs = _specs(read)
    if world.twins.reconciling:
        world.twins.reconcile_one_step()
    else:
        world.twins.begin_to_reconcile(specs)


def _change(world: World, read: Reader) -> None:
    removed = read.number()
    removals = [session_id for index, session_id in enumerate(SESSION_IDS) if removed >> index & 1]
    upserts = _specs(read)
    if not world.twins.reconciling:
        world.twins.change(upserts, removals)


def _time_passes(world: World, read: Reader) -> None:
    world.twins.now += read.pick(_SECONDS)


def _expire(world: World, read: Reader) -> None:
    budget = read.number()
    if budget:
        world.twins.expire_within(budget)
    else:
        world.twins.expire_all()


def _drain(world: World, read: Reader) -> None:
    world.twins.drain(bool(read.number() & 1))


_DATAGRAMS = (_raw, _known, _bound)
_OPERATIONS: tuple[Callable[[World, Reader], None], ...] = (
    *_DATAGRAMS,
    *(_known, _bound) * 3,
    _time_passes,
    _expire,
    _apply,
    _change,
    _begin_to_reconcile,
    _drain,
)
"""Most of what happens are datagrams, and most of those can mean something."""
RAW, KNOWN, BOUND, TIME_PASSES, EXPIRE = map(_OPERATIONS.index, (*_DATAGRAMS, _time_passes, _expire))
_CHANGES = (_expire, _apply, _change, _begin_to_reconcile)


def check(data: bytes) -> Done:
    """Raises if anything becomes of these datagrams but what should. Returns their verdicts."""
    read = Reader(data)
    world = World(read.number())
    world.twins.apply(_specs(read))
    while read.left and world.datagrams < _MOST_DATAGRAMS:
        operation = read.pick(_OPERATIONS)
        operation(world, read)
        if operation in _CHANGES:
            world.check()
    world.check()
    return Done(world.verdicts, world.checks)
