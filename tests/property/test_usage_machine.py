"""Usage records add up to what was forwarded, whatever happens in whatever order."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relayd.core import usage
from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.usage import Counts
from relayd.state import memory
from relayd.usage import journal
from tests.support.usage_world import UsageWorld

SESSION_IDS = ["a", "b", "c"]
TOKENS = [101, 102, 103, 104]
HOST = 1
PLAYERS = [2, 3]

specs = st.builds(
    lambda session_id, token, users: SessionSpec(session_id, token, tuple(UserSpec(user, None) for user in users)),
    st.sampled_from(SESSION_IDS),
    st.sampled_from(TOKENS),
    st.sampled_from([(HOST, *PLAYERS), (HOST, *PLAYERS), (HOST, 2), (HOST,), (2, 3)]),
)
wanted_sessions = st.lists(specs, unique_by=(lambda one: one.session_id, lambda one: one.token))


class UsageMachine(RuleBasedStateMachine):
    @initialize(sessions=wanted_sessions)
    def start(self, sessions: list[SessionSpec]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = UsageWorld(Path(self.folder.name))
        self.wanted = sessions
        self.world.apply(sessions)

    @rule(sessions=wanted_sessions)
    def the_source_names_others(self, sessions: list[SessionSpec]) -> None:
        self.wanted = sessions
        self.load()

    @precondition(lambda self: self.wanted)
    @rule(which=st.integers(0, 2), player=st.sampled_from(PLAYERS), size=st.integers(1, 50), port=st.integers(7, 8))
    def a_player_sends(self, which: int, player: int, size: int, port: int) -> None:
        spec = self.wanted[which % len(self.wanted)]
        self.world.host_pings(spec.token, HOST)
        self.world.player_sends(spec.session_id, spec.token, player, size, port * 10)

    @precondition(lambda self: self.wanted)
    @rule(which=st.integers(0, 2), player=st.sampled_from(PLAYERS))
    def the_host_sends(self, which: int, player: int) -> None:
        spec = self.wanted[which % len(self.wanted)]
        session = self.world.table.sessions.get(spec.session_id)
        user = session.users.get(player) if session is not None else None
        if user is not None and user.connection_id:
            self.world.host_sends(spec.session_id, spec.token, HOST, user.connection_id)

    @rule(seconds=st.sampled_from([1.0, 5.0, 31.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.wall += seconds
        while self.world.table.expire(self.world.now, 100):
            pass

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.wall += seconds

    @rule(interval_is_over=st.booleans())
    def a_tick(self, interval_is_over: bool) -> None:
        self.world.tick(interval_is_over)

    @rule(takes=st.booleans(), answers=st.booleans())
    def a_batch_is_sent(self, takes: bool, answers: bool) -> None:
        self.world.consumer.takes, self.world.consumer.answers = takes, answers
        self.world.send()

    @rule(then=st.one_of(st.none(), wanted_sessions), torn=st.binary(max_size=30))
    def a_crash(self, then: list[SessionSpec] | None, torn: bytes) -> None:
        """Sessions may be others when the relay is back; and something may have been half written."""
        self.world.kill()
        with (self.world.folder / "usage.journal").open("ab") as journal:
            journal.write(torn)
        self.world.boot()
        if then is not None:
            self.wanted = then

    @precondition(lambda self: not self.world.loaded)
    @rule()
    def load(self) -> None:
        self.world.apply(self.wanted)

    @invariant()
    def nothing_counts_twice(self) -> None:
        world: UsageWorld | None = getattr(self, "world", None)
        for session_id, counts in world.consumer.sums().items() if world is not None else ():
            assert world is not None
            assert world.forwarded.get(session_id, Counts()).at_least(counts)

    def teardown(self) -> None:
        world: UsageWorld | None = getattr(self, "world", None)
        if world is None:
            return
        try:
            world.apply([])
            world.tick()
            world.send_all()
            summed = {session_id: counts for session_id, counts in world.consumer.sums().items() if any(counts)}
            assert summed == world.forwarded
            assert world.consumer.sums_of_records() == summed
            assert world.consumer.all_ended()
            assert not world.metering.ledger.spans
            assert not world.metering.ledger.unsent
        finally:
            world.kill()
            self.folder.cleanup()


TestUsage = UsageMachine.TestCase
TestUsage.settings = settings(max_examples=60, stateful_step_count=40, phases=(Phase.generate,))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory that was mapped keeps its file locked for as long as it is there: what was killed is still in this process.
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _operation: None)
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    monkeypatch.setattr(memory, "_GROWTH", 64)
    # So that merging and rewriting happen all the time.
    monkeypatch.setattr(usage, "_MERGE_FROM", 4)
    monkeypatch.setattr(journal, "_REWRITE_FROM_BYTES", 1000)
