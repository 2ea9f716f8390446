"""A relay's core with a clock turned by hand and connection ids in order."""

from collections.abc import Callable, Iterable

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.events import Event, EventKind
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.lookups import Lookups
from relayd.core.session import User
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data

SERVER = Endpoint(Port.SERVER, 0)
CLIENT = Endpoint(Port.CLIENT, 1)
OTHER_CLIENT = Endpoint(Port.CLIENT, 2)

SESSION = 0xCAFEBABE
HOST, ALICE, BOB = 2000, 1001, 1002
HOST_AT: Address = ("198.51.100.1", 7777)
ALICE_AT: Address = ("203.0.113.1", 5001)
ALICE_MOVED: Address = ("203.0.113.1", 5002)
BOB_AT: Address = ("203.0.113.2", 5001)
STRANGER_AT: Address = ("192.0.2.66", 6666)

OPENING = bytes((1, 0, 0, 0, 0)) + b"hello"
"""A payload with KCP's zero cookie."""
ONGOING = bytes((1, 0x51, 0, 0, 0)) + b"move"
"""A payload of a connection that stands."""


def spec(session_id: str = "game", token: int = SESSION, users: Iterable[int] = (HOST, ALICE, BOB)) -> SessionSpec:
    return SessionSpec(session_id, token, tuple(UserSpec(user, None) for user in users))


def ids_in_order() -> Callable[[], int]:
    numbers = iter(range(1, 1 << 31))
    return lambda: next(numbers)


class Events(list[Event]):
    """All that a table told."""

    def event(self, event: Event) -> None:
        self.append(event)


class Relay:
    """One session of a host and two players, unless told otherwise."""

    def __init__(
        self,
        limits: Limits | None = None,
        specs: Iterable[SessionSpec] = (spec(),),
        new_connection_id: Callable[[], int] | None = None,
        lookups: Lookups | None = None,
    ) -> None:
        self.now = 1000.0
        self.events = Events()
        self.table = Table(limits or Limits(), new_connection_id or ids_in_order())
        self.table.followers.subscribe(Phase.READERS, self.events)
        self.engine = Engine(self.table, lookups)
        self.apply(*specs)

    def apply(self, *specs: SessionSpec) -> None:
        self.table.apply(Snapshot.of(specs), self.now)

    def send(self, endpoint: Endpoint, data: bytes, source: Address) -> Action:
        return self.engine.handle(endpoint, data, source, self.now)

    def host_pings(self, user: int = HOST, source: Address = HOST_AT, session: int = SESSION) -> Action:
        return self.send(SERVER, encode_ping(user, session), source)

    def host_sends(self, connection_id: int, payload: bytes = ONGOING) -> Action:
        return self.send(SERVER, encode_host_data(HOST, SESSION, connection_id, payload), HOST_AT)

    def player_pings(self, user: int = ALICE, source: Address = ALICE_AT, session: int = SESSION) -> Action:
        return self.send(CLIENT, encode_ping(user, session), source)

    def player_sends(
        self, payload: bytes = ONGOING, user: int = ALICE, source: Address = ALICE_AT, session: int = SESSION
    ) -> Action:
        return self.send(CLIENT, encode_player_data(user, session, payload), source)

    def user(self, token: int = ALICE, session_id: str = "game") -> User:
        return self.table.sessions[session_id].users[token]

    def expire(self, budget: int = 1000) -> bool:
        return self.table.expire(self.now, budget)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    def count(self, port: Port, verdict: Verdict) -> tuple[int, int]:
        counters = self.engine.counters
        return counters.datagrams[port][verdict], counters.bytes[port][verdict]

    def counted(self) -> tuple[int, int]:
        """All datagrams and all bytes, of whatever verdict."""
        counters = self.engine.counters
        return sum(map(sum, counters.datagrams)), sum(map(sum, counters.bytes))


def running() -> Relay:
    """A host and one player are bound."""
    relay = Relay()
    relay.host_pings()
    relay.player_pings()
    return relay


def pinned() -> Relay:
    """The player may only come from its own address."""
    return Relay(Limits(pin_ip=True), [SessionSpec("game", SESSION, (UserSpec(ALICE, ALICE_AT[0]),))])


def full() -> Relay:
    """Its host is the one user it has room for."""
    relay = Relay(Limits(max_bound_users=1))
    relay.host_pings()
    return relay
