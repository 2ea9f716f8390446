"""A table with its state file, as one process after another would have them, on a clock turned by hand."""

import struct
from pathlib import Path

from relayd.core.counters import Traffic
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.events import Event
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.session import Session
from relayd.core.table import Table
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.python.udp import RecordKeeper
from relayd.state.memory import StateMemory
from relayd.state.records import Accounts, Records
from relayd.state.restoration import Restoration

ENDPOINTS = [Endpoint(Port(number % 2), number) for number in range(4)]
S, C = ENDPOINTS[0], ENDPOINTS[1]
SESSION = 0xCAFE
HOST, ALICE, BOB = 10, 11, 12
HERE = ("198.51.100.1", 4000)
THERE = ("2001:db8::7", 5000, 0, 0)
TIMEOUT_SECONDS = 30.0
SPAN = b"a span of usage."
PAYLOAD = b"\x01\0\0\0\0hello"

_ids = iter(range(1000, 2**31))


class Spans:
    """Whoever records usage: one span for all."""

    def __init__(self) -> None:
        self.asked: list[Session] = []
        self.ended_with: list[list[int]] = []
        self.gone_with: list[tuple[bytes, Traffic, list[int]]] = []

    def of(self, session: Session) -> bytes:
        self.asked.append(session)
        return SPAN

    def goes_on(self, session: Session, span: bytes, counts: Traffic) -> bool:
        return True

    def ended(self, event: Event, accounts: Accounts) -> None:
        self.ended_with.append(accounts.slots)

    def gone(self, span: bytes, counts: Traffic, accounts: Accounts) -> None:
        self.gone_with.append((span, counts, accounts.slots))


class Life:
    """One process's."""

    def __init__(self, folder: Path, digest: int = 7, spans: Spans | None = None) -> None:
        self.now = 1000.0
        self.state = StateMemory(folder, digest)
        self.records = Records(self.state, lambda: self.now, spans=spans)
        self.table = Table(Limits(user_timeout=TIMEOUT_SECONDS), lambda: next(_ids))
        self.engine = Engine(self.table)
        self.engine.counters.continue_in(self.records.counters_memory())
        self.records.follow(self.table.followers)
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        self.restoration = Restoration(
            state=self.state,
            records=self.records,
            table=self.table,
            endpoints=ENDPOINTS,
            counters=self.engine.counters,
            now=lambda: self.now,
            longest_silence_seconds=TIMEOUT_SECONDS,
        )

    def authorize(self, **users: tuple[int, ...]) -> None:
        """Sessions by id, all with tokens of their own; SESSION is that of the first."""
        specs = [
            SessionSpec(name, SESSION + number, tuple(UserSpec(user, None) for user in tokens))
            for number, (name, tokens) in enumerate(users.items())
        ]
        self.table.apply(Snapshot.of(specs), self.now)

    def handle(self, endpoint: Endpoint, data: bytes, source: tuple[object, ...]) -> Action:
        action = self.engine.handle(endpoint, data, source, self.now)
        if action.player is not None:
            self.records.account(action.player.user)
        return action

    def killed(self) -> None:
        """As by SIGKILL: nothing is tidied up, but the kernel gives the lock free."""
        self.state.beat()
        self.state.close()


def first_life(folder: Path) -> tuple[Life, int]:
    """A host and Alice play; returns Alice's connection id too."""
    life = Life(folder)
    life.authorize(game=(HOST, ALICE, BOB))
    life.handle(S, encode_ping(HOST, SESSION), HERE)
    action = life.handle(C, encode_player_data(ALICE, SESSION, PAYLOAD), THERE)
    (connection_id,) = struct.unpack_from("<i", action.datagram, 1)
    life.handle(S, encode_host_data(HOST, SESSION, connection_id, b"back"), HERE)
    return life, connection_id
