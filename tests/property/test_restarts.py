"""One process after another on one state file and one kernel program: nobody is bound twice, and all counts once."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relayd.core.declaration.kernel_maps import STATE
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Followers, Phase
from relayd.core.limits import Limits
from relayd.core.session import Binding
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from relayd.forwarding.kernel import counters, fast_path
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.layout import State
from relayd.forwarding.kernel.program import Sizes
from relayd.forwarding.python.udp import RecordKeeper
from relayd.settings import Settings
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from relayd.state.restoration import Restoration
from tests.support.kernel_maps import PROCESSORS, FakeProgram

SERVER, CLIENT = Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)
RELAY_AT = "192.0.2.1"
SESSIONS = {100: (1, 2, 3), 101: (11, 12, 13)}
"""Users by session token, the host first."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Life:
    """One process's: engine, state file and a fast path, on what the one before it left."""

    def __init__(
        self, folder: Path, program: FakeProgram, clock: Clock, new_id: Callable[[], int], first: bool
    ) -> None:
        self.soon: list[Callable[[], None]] = []
        self.failed: list[Exception] = []
        limits = Limits(rebind_after=0.0, user_datagrams_per_second=0, user_bytes_per_second=0)
        self.table = Table(limits, new_id, Followers(self.failed.append))
        self.engine = Engine(self.table)
        self.clock = clock
        state = StateMemory(folder, bind_digest=1)
        self.records = Records(state, clock)
        self.engine.counters.continue_in(self.records.counters_memory())
        self.records.follow(self.table.followers)
        self.restoration = Restoration(
            state=state,
            records=self.records,
            table=self.table,
            endpoints=[SERVER, CLIENT],
            counters=self.engine.counters,
            now=clock,
            longest_silence_seconds=limits.user_timeout,
        )
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        anything: Any = program
        self.fast_path = FastPath(
            settings=Settings.model_validate({"relay": {"bind": [RELAY_AT]}}),
            engine=self.engine,
            endpoints=[(SERVER, RELAY_AT), (CLIENT, RELAY_AT)],
            program=anything,
            pins=None,
            adopt=not first,
            later=self.soon.append,
            kept=self.restoration,
            clock=clock,
        )

    def authorize(self, sessions: Mapping[int, tuple[int, ...]]) -> None:
        specs = [
            SessionSpec(f"game {token}", token, tuple(UserSpec(user, None) for user in users))
            for token, users in sessions.items()
        ]
        self.table.apply(Snapshot.of(specs), self.clock())

    def flush(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for work in soon:
            work()

    def settle(self) -> None:
        """All that goes on beside the datagrams, until nothing is left to do."""
        for _ in range(2):
            self.flush()
            asyncio.run(self.fast_path.tick())
            self.restoration.finish()
        self.fast_path.absorb(self.table.sessions.values())

    def end(self, killed: bool) -> None:
        if not killed:
            self.fast_path.stop(remove=False)
        self.records.beat()
        self.records.close()

    def bound(self) -> dict[tuple[int, Port], Address]:
        found: dict[tuple[int, Port], Address] = {}
        for session in self.table.sessions.values():
            for binding in session.bindings():
                assert (binding.user.token, binding.port) not in found
                found[binding.user.token, binding.port] = binding.address
        return found


class Game:
    """Plays by chance, and keeps count itself."""

    def __init__(self, chance: random.Random, folder: Path, clock: Clock) -> None:
        self.chance, self.folder, self.clock = chance, folder, clock
        self.program = FakeProgram(Sizes(50, chance.choice((3, 50))))
        self.new_id = iter(range(500, 1 << 31)).__next__
        self.truth: Counter[int] = Counter()
        """Datagrams to the host, by session."""
        self.by_engine = 0
        self.ports: Counter[int] = Counter()
        """How often each user has moved."""
        self.life = Life(folder, self.program, clock, self.new_id, first=True)
        self.life.authorize(SESSIONS)

    def step(self) -> None:
        self.clock.now += self.chance.random()
        session = self.chance.choice(list(SESSIONS))
        user = self.chance.choice(SESSIONS[session][1:])
        moves: list[Callable[[int, int], None]] = [self.ping, self.move, self.data, self.data, self.kernel, self.kernel]
        moves += [self.authorize, self.flush, self.settle, self.restart]
        self.chance.choice(moves)(session, user)

    def at(self, user: int) -> Address:
        return f"198.51.100.{user}", 5000 + self.ports[user]

    def ping(self, session: int, user: int) -> None:
        host = SESSIONS[session][0]
        self.life.engine.handle(SERVER, encode_ping(host, session), self.at(host), self.clock())
        self.life.engine.handle(CLIENT, encode_ping(user, session), self.at(user), self.clock())

    def move(self, session: int, user: int) -> None:
        self.ports[user] += 1
        self.ping(session, user)

    def data(self, session: int, user: int) -> None:
        action = self.life.engine.handle(CLIENT, encode_player_data(user, session, b"x"), self.at(user), self.clock())
        if action.player is not None and action.verdict is Verdict.FORWARDED:
            self.truth[session] += 1
            self.by_engine += 1
            self.life.records.account(action.player.user)

    def kernel(self, session: int, user: int) -> None:
        """The kernel forwards some for whoever it serves."""
        there = self.life.table.by_token[session].users.get(user)
        binding: Binding | None = there.client_binding if there is not None else None
        slot = self.life.fast_path.mirror.slot_of.get(binding) if binding is not None else None
        if slot is not None:
            more, start = self.chance.randrange(1, 4), slot * STATE.size_bytes
            memory = self.program.map("states").share()
            state = State.from_buffer_copy(memory[start : start + STATE.size_bytes])
            state.to_host_datagrams += more
            state.last_seen_ns = int(self.clock() * 1e9)
            memory[start : start + STATE.size_bytes] = bytes(state)
            self.truth[session] += more

    def authorize(self, _session: int, _user: int) -> None:
        """Some are taken out, and others let in again."""
        self.life.authorize(
            {
                session: tuple(user for user in users if user == users[0] or self.chance.random() < 0.7)
                for session, users in SESSIONS.items()
            }
        )

    def flush(self, _session: int, _user: int) -> None:
        self.life.flush()

    def settle(self, _session: int, _user: int) -> None:
        self.life.settle()
        for token in SESSIONS:
            assert self.life.table.by_token[token].traffic().to_host_datagrams == self.truth[token]

    def restart(self, session: int, user: int) -> None:
        assert self.life.failed == []
        bound = self.life.bound()
        self.life.end(killed=self.chance.random() < 0.5)
        del self.life
        # The memory of the state file, and with it the lock, goes with the last who knows it.
        gc.collect()
        self.life = Life(self.folder, self.program, self.clock, self.new_id, first=False)
        self.life.authorize(SESSIONS)
        assert self.life.bound() == bound, "everybody who was bound plays on"
        if self.chance.random() < 0.7:
            self.settle(session, user)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    async def at_once() -> None:
        """No run of a program is under way."""

    one = Clock()
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", lambda bind: {name: name for name in bind})
    monkeypatch.setattr(counters, "library", lambda: SimpleNamespace(libbpf_num_possible_cpus=lambda: PROCESSORS))
    monkeypatch.setattr(fast_path, "all_runs_over", at_once)
    monkeypatch.setattr("relayd.state.memory.time", SimpleNamespace(monotonic=one))
    return one


@pytest.mark.parametrize("game", range(20))
def test_everybody_is_bound_once_and_everything_counted_once(game: int, tmp_path: Path, clock: Clock) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, game {game}")  # noqa: T201 - shown where it fails
    played = Game(random.Random(seed), tmp_path, clock)
    for _ in range(80):
        played.step()
    played.settle(0, 0)
    assert played.life.failed == []
    assert played.life.engine.counters.datagrams[Port.CLIENT][Verdict.FORWARDED] == played.by_engine
