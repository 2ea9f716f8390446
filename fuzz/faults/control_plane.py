"""The control plane: which sessions there should be, and how the relay hears of it, when it hears of it."""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from fuzz.faults.schedule import Schedule
from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot, UserSpec
from relayd.core.lookups import Lookups
from relayd.core.shrink_guard import ShrinkGuard
from relayd.core.table import Table

_RETRY_SECONDS = 2.0
_LONGEST_SLICE_SECONDS = 0.3
"""Between two steps of a reconciliation: far slower than they are, so that something happens in between."""
_LOOKUP_SECONDS = 0.3
_GATHER_SECONDS = 2.0
"""As relayd/session_source/control_plane/keeper.py has it: until what was applied is on disk."""

_Asked = frozenset[tuple[int, int]]
"""Pairs that the relay looked up."""


class ControlPlane:
    """Desired sessions, and the link that brings them to a relay.

    Args:
        schedule: the clock.
        random: chooses what goes wrong.
        shrink_hold_seconds: see `ShrinkGuard`.
    """

    def __init__(self, schedule: Schedule, random: Random, shrink_hold_seconds: float) -> None:
        self.sessions: dict[str, SessionSpec] = {}
        self.away = False
        self.lies = 0.0
        """How likely an answer is a wrong one."""
        self.on_ended: Callable[[str], None] = lambda _: None
        """Told of each session that is no more because the relay found nobody there."""
        self.on_applied: Callable[[bool], None] = lambda _: None
        """Told whenever the table was brought to a state that is believed, and whether it is the control plane's."""
        self._schedule = schedule
        self._random = random
        self._hold_seconds = shrink_hold_seconds
        self._ended: set[str] = set()
        self._planned: float | None = None
        self._reconciling = False
        self._table: Table | None = None
        self._now: Callable[[], float] = lambda: 0.0
        self._last_good: tuple[SessionSpec, ...] | None = None
        self._guard = ShrinkGuard(shrink_hold_seconds)
        self._lookups: Lookups | None = None

    # The relay's end of it

    def connect(self, table: Table, lookups: Lookups, now: Callable[[], float], with_last_good: bool) -> None:
        """A relay has started.

        Args:
            table: gets the sessions.
            lookups: what it asks about.
            now: seconds, on its clock.
            with_last_good: whether it finds the last good sessions on its disk.
        """
        self._table, self._lookups, self._now = table, lookups, now
        self._guard = ShrinkGuard(self._hold_seconds)
        if with_last_good and self._last_good is not None:
            table.apply(Snapshot.of(self._last_good), now())
            self.on_applied(False)
        self.sync_after(0.0)

    def disconnect(self) -> None:
        """The relay is gone."""
        self._table = self._planned = None
        self._reconciling = False

    def ended(self, session_id: str) -> None:
        """The relay found nobody in a session; it is reported with the next answer that comes."""
        self._ended.add(session_id)
        self.sync_after(0.2)

    def ask(self) -> None:
        """The relay asks about an unknown pair."""
        self.sync_after(_LOOKUP_SECONDS)

    def sync_after(self, seconds: float) -> None:
        """Plans an answer, unless there will be one before, or nobody to be answered."""
        at = self._schedule.now + seconds
        if self._table is not None and (self._planned is None or at < self._planned):
            self._planned = at
            self._schedule.at(at, lambda: self._answer(at))

    def _answer(self, planned: float) -> None:
        if planned != self._planned or self._table is None:
            return
        self._planned = None
        if self.away or self._reconciling:
            self.sync_after(_RETRY_SECONDS)
            return
        for session_id in sorted(self._ended):
            if self.sessions.pop(session_id, None) is not None:
                self.on_ended(session_id)
        self._ended.clear()
        assert self._lookups is not None
        asked = self._lookups.asked()
        lie = self._random.random() < self.lies
        if lie:
            self.sync_after(_RETRY_SECONDS)
        self._apply(self._lie() if lie else list(self.sessions.values()), asked)

    def _apply(self, specs: list[SessionSpec], asked: _Asked) -> None:
        """Brings the table to these sessions, all at once or step by step, if they are believed."""
        table = self._table
        assert table is not None
        before = _in(table)
        try:
            snapshot = Snapshot.of(specs)
            missing = sum(session_id not in snapshot.sessions for session_id in table.sessions)
            if self._guard.seconds_left(len(table.sessions), missing, self._now()) > 0:
                self.sync_after(_RETRY_SECONDS)
                return
            if table.loaded and self._random.random() < 0.5:
                removals = tuple(key for key in table.sessions if key not in snapshot.sessions)
                table.change(Change(tuple(specs), removals), self._now())
                self._applied(table, specs, asked)
            else:
                self._reconciling = True
                self._go_on(table, table.reconcile(snapshot, self._now()), specs, asked)
        except InvalidSessionsError:
            self.sync_after(_RETRY_SECONDS)
            assert _in(table) == before, "sessions that contradict each other changed something"

    def _go_on(self, table: Table, steps: Iterator[None], specs: list[SessionSpec], asked: _Asked) -> None:
        """One more step of a reconciliation, if the relay still runs."""
        if table is not self._table:
            return
        if next(steps, steps) is not steps:
            after = self._random.random() * _LONGEST_SLICE_SECONDS
            self._schedule.after(after, partial(self._go_on, table, steps, specs, asked))
            return
        self._reconciling = False
        self._applied(table, specs, asked)

    def _applied(self, table: Table, specs: list[SessionSpec], asked: _Asked) -> None:
        assert _in(table) == {
            one.session_id: (one.token, {user.token for user in one.users})
            for one in specs
            if table._ended.get(one.session_id) != one.token
        }, "the table is not what it was brought to"
        self._schedule.after(_GATHER_SECONDS, partial(self._keep, table, tuple(specs)))
        assert self._lookups is not None
        self._lookups.answered(asked, self._now())
        self.on_applied(True)

    def _keep(self, table: Table, specs: tuple[SessionSpec, ...]) -> None:
        """Writes the last good sessions, if the relay has lived long enough for that."""
        if table is self._table:
            self._last_good = specs

    def _lie(self) -> list[SessionSpec]:
        """What a control plane with a defect may say."""
        specs = list(self.sessions.values())
        kind = self._random.randrange(5)
        if kind == 0 or not specs:
            return []
        chosen = self._random.randrange(len(specs))
        one = specs[chosen]
        if kind == 1:
            return [*specs, one]
        if kind == 2:
            return [*specs, one._replace(session_id="another")]
        if kind == 3:
            specs[chosen] = one._replace(users=one.users[: len(one.users) // 2])
            return specs
        return [*specs[:chosen], *specs[chosen + 1 :]]


def _in(table: Table) -> dict[str, tuple[int, set[int]]]:
    """Which sessions there are, and who is in them."""
    return {key: (session.token, set(session.users)) for key, session in table.sessions.items()}


def spec(session_id: str, token: int, users: list[int]) -> SessionSpec:
    """A session with these users."""
    return SessionSpec(session_id, token, tuple(UserSpec(user, None) for user in users))
