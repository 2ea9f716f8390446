"""In whatever order the parts of a relay begin to follow the table, the same steps have the same outcome.

A relay is killed, and the next one goes on: with a fast path that served somebody meanwhile, with the state file, and
with those who only look on. The fast path is a fake one here.
"""

from collections.abc import MutableMapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from relayd.admin.change_log import ChangeLog
from relayd.admin.metrics.series import SessionSeries
from relayd.core.counters import Traffic
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address
from relayd.core.engine import Engine
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.pings import Pings
from relayd.core.session import Binding, Session, User
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.views import KeptCounts
from relayd.core.wire import Port, encode_host_data, encode_ping
from relayd.forwarding.python.udp import RecordKeeper
from relayd.state import layout, memory
from relayd.state.memory import NAME, StateMemory
from relayd.state.records import Accounts, Records
from relayd.state.restoration import Restoration
from tests.support.gathered import Gathered
from tests.support.relays import ids_in_order
from tests.unit.state.worlds import ALICE, BOB, ENDPOINTS, HERE, HOST, SESSION, THERE, C, S, first_life

ELSEWHERE: Address = ("203.0.113.9", 6000)
Lines = list[MutableMapping[str, Any]]

BY_KERNEL = (5, 500, 3, 300)
"""What the fast path forwards of a binding between two looks."""


class FastPathOfAlice:
    """One that went on serving Alice over the restart, and heard of her a moment ago."""

    def __init__(self, engine: Engine, kept: KeptCounts, connection_id: int) -> None:
        table = self._table = engine.table
        self._counters, self._kept, self._connection_id = engine.counters, kept, connection_id
        self._served: set[Binding] = set()
        table.followers.subscribe(Phase.KERNEL, self)
        table.followers.subscribe_to_users(Phase.KERNEL, self)
        table.presence.register(self)

    def event(self, event: Event) -> None:
        if event.binding in self._served and event.kind in (*UNBOUND, EventKind.USER_MOVED):
            self._served.discard(event.binding)
            self._take_counts(event.binding)

    def authorized(self, user: User, admitted: bool) -> None:
        if admitted and user.token == ALICE:
            self._kept.bring_back(user)
            binding = self._table.restore(user, C, THERE, connection_id=self._connection_id, now=1000.0)
            self._served.add(binding)
            self._take_counts(binding)

    def _take_counts(self, binding: Binding) -> None:
        binding.traffic.count(*BY_KERNEL)
        for port, at in ((Port.CLIENT, 0), (Port.SERVER, 2)):
            self._counters.datagrams[port][Verdict.FORWARDED] += BY_KERNEL[at]
            self._counters.bytes[port][Verdict.FORWARDED] += BY_KERNEL[at + 1]
        self._kept.account(binding.user)

    def last_heard(self, binding: Binding) -> float:
        return 1009.0 if binding in self._served else 0.0

    def pings(self, binding: Binding) -> Pings | None:
        return Pings(int(1009e9), 4) if binding in self._served else None


class Spans:
    """Whoever records usage: what a session had counted when it ended, and where."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, tuple[int, ...], list[int]]] = []

    def of(self, session: Session) -> bytes:
        return session.token.to_bytes(16, "big")

    def goes_on(self, session: Session, span: bytes, counts: Traffic) -> bool:
        return True

    def ended(self, event: Event, accounts: Accounts) -> None:
        session = event.session
        counts = session.traffic()
        self.recorded.append((session.session_id, numbers(counts), accounts.slots))

    def gone(self, span: bytes, counts: Traffic, accounts: Accounts) -> None:
        self.recorded.append(("gone", numbers(counts), accounts.slots))


def numbers(traffic: Traffic) -> tuple[int, int, int, int]:
    return traffic.to_host_datagrams, traffic.to_host_bytes, traffic.to_player_datagrams, traffic.to_player_bytes


class SecondLife:
    """A relay that goes on with what the first one left, followed in this order."""

    def __init__(self, folder: Path, connection_id: int, order: Sequence[str]) -> None:
        self.now = 1001.0
        followers = Gathered()
        self.table = Table(Limits(user_timeout=30.0), ids_in_order(), followers)
        self.engine = Engine(self.table)
        self.state = StateMemory(folder, 7)
        self.spans = Spans()
        self.records = Records(self.state, lambda: self.now, spans=self.spans)
        self.engine.counters.continue_in(self.records.counters_memory())
        self.series, self.log = SessionSeries(10), ChangeLog(self.engine.counters)
        with followers.of("state"):
            restoration = Restoration(
                state=self.state,
                records=self.records,
                table=self.table,
                endpoints=ENDPOINTS,
                counters=self.engine.counters,
                now=lambda: self.now,
                longest_silence_seconds=1e6,
            )
        with followers.of("records"):
            self.records.follow(followers)
        with followers.of("kernel"):
            FastPathOfAlice(self.engine, restoration, connection_id)
        with followers.of("ports"):
            followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        with followers.of("readers"):
            followers.subscribe(Phase.READERS, self.series)
            followers.subscribe(Phase.READERS, self.log)
        followers.begin(order)
        self.restoration = restoration

    def authorize(self, *users: int) -> None:
        specs = [SessionSpec("game", SESSION, tuple(UserSpec(user, None) for user in users))] if users else []
        self.table.apply(Snapshot.of(specs), self.now)

    def look(self) -> "Seen":
        """All that there is to see from outside."""
        sessions = self.table.sessions.values()
        presence = self.table.presence
        return Seen(
            users=[
                (user.token, user.connection_id, numbers(user.traffic or Traffic()))
                for session in sessions
                for user in session.users.values()
            ],
            bindings=[
                (one.user.token, one.port, one.address, presence.last_heard(one))
                for session in sessions
                for one in session.bindings()
            ],
            series=[(label, numbers(traffic)) for label, traffic in self.series.read(self.engine.forwarded())],
            file=list(layout.records(self.state.memory, self.state.slots)),
            recorded=list(self.spans.recorded),
        )


class Seen(NamedTuple):
    """What is the same in whatever order."""

    users: list[tuple[int, int, tuple[int, ...]]]
    bindings: list[tuple[int, Port, Address, float]]
    series: list[tuple[str, tuple[int, ...]]]
    file: list[tuple[int, layout.Identity, tuple[int, ...]]]
    recorded: list[tuple[str, tuple[int, ...], list[int]]]


PARTS = ("kernel", "ports", "records", "state", "readers")


def outcome(folder: Path, connection_id: int, order: Sequence[str]) -> tuple[list[Seen], Lines]:
    """Of the same steps: what was seen after each of them, and what was logged."""
    life = SecondLife(folder, connection_id, order)
    seen: list[Seen] = []
    try:
        with capture_logs() as lines:
            life.authorize(HOST, ALICE, BOB)
            seen.append(life.look())
            life.restoration.finish()
            life.now = 1010.0
            life.engine.handle(C, encode_ping(ALICE, SESSION), ELSEWHERE, life.now)
            life.engine.handle(C, encode_ping(BOB, SESSION), ELSEWHERE, life.now)
            life.engine.handle(S, encode_host_data(HOST, SESSION, connection_id, b"on"), HERE, life.now)
            seen.append(life.look())
            life.authorize(HOST, BOB)
            seen.append(life.look())
            life.authorize()
            seen.append(life.look())
    finally:
        life.state.close()
    return seen, lines


def test_no_order_of_set_up_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_GROWTH", 32)
    life, connection_id = first_life(tmp_path)
    life.killed()
    file = tmp_path / NAME
    with file.open("rb") as left:
        used = left.read(layout.record_at(32))
    outcomes = {}
    for order in permutations(PARTS):
        size = file.stat().st_size
        with file.open("wb") as again:
            again.write(used)
            again.truncate(size)
        outcomes[order] = outcome(tmp_path, connection_id, order)
    expected = outcomes.pop(PARTS)
    (restored, moved, revoked, ended), _ = expected
    # The host is back by the file, Alice by the fast path, which heard her last, on top of what the file had counted.
    assert restored.bindings == [(HOST, S.port, HERE, 1001.0), (ALICE, C.port, THERE, 1009.0)]
    assert restored.users[1] == (ALICE, connection_id, (6, 519, 4, 317))
    assert moved.users[1] == (ALICE, connection_id, (11, 1019, 8, 632))
    assert revoked.series == [("game", (11, 1019, 8, 632)), ("other", (0, 0, 0, 0))]
    assert [one[:2] for one in ended.recorded] == [("game", (11, 1019, 8, 632))]
    for order, seen in outcomes.items():
        assert seen == expected, f"set up as {order}"
