"""The relay under test: the real table, engine, state and restoration, without sockets; its clock may jump ahead."""

from collections import deque
from collections.abc import Callable
from random import Random

from fuzz.faults.budgets import MOST_SOURCES
from fuzz.faults.control_plane import ControlPlane
from fuzz.faults.invariants import Ledger
from fuzz.faults.network import CLIENT, SERVER, Network
from fuzz.faults.schedule import Schedule
from fuzz.faults.state import VirtualState
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.events import Event, EventKind
from relayd.core.followers import Phase
from relayd.core.guesses import Guesses
from relayd.core.limits import Limits, RefusalLimiter
from relayd.core.lookups import Lookups
from relayd.core.session import User
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.forwarding.python.udp import RecordKeeper
from relayd.state.records import Records
from relayd.state.restoration import Restoration

_ENDPOINTS = [SERVER, CLIENT]
_SOCKET_QUEUE = 200
_EXPIRY_BUDGET = 200
_BEAT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 5.0
"""As relayd/app.py has it: for sessions, before datagrams are taken in all the same."""


class SimulatedRelay:
    """A relay that can be ended at any step and started again.

    Args:
        schedule: the clock of the world.
        network: carries its datagrams.
        control_plane: gives it its sessions.
        random: gives connection ids, and chooses what the kernel does not send.
        limits: its settings.
    """

    def __init__(
        self, schedule: Schedule, network: Network, control_plane: ControlPlane, random: Random, limits: Limits
    ) -> None:
        self.limits = limits
        self.ledger = Ledger(limits, network)
        self.up = False
        """Whether it reads its sockets."""
        self.unsent_share = 0.0
        """How likely the kernel does not take what is sent."""
        self.restarts = 0
        self.jumped_seconds = 0.0
        self._schedule = schedule
        self._network = network
        self._control_plane = control_plane
        self._random = random
        self.restored_bindings = 0
        """Over all restarts."""
        self._state: VirtualState | None = None
        self._queue: deque[tuple[Endpoint, bytes, Address]] = deque()
        self._expiry_at: float | None = None
        self._offered: set[int] = set()
        """Connection ids that were in use when they were given once more."""
        network.to_relay = self.receive
        self.start(keep_state=False, with_last_good=False)

    def now(self) -> float:
        """Seconds, on the relay's clock: that of the world, but for jumps."""
        return self._schedule.now + self.jumped_seconds

    def _new_connection_id(self) -> int:
        """Often one that somebody has: nobody else in the same session may get it."""
        taken = [one for session in self.table.sessions.values() for one in session.players if one not in self._offered]
        if taken and self._random.random() < 0.5:
            # But only once, so that no session gets it again after it was retired there.
            self._offered.add(offer := self._random.choice(taken))
            return offer
        return self._random.randrange(1, 1 << 31)

    # Life

    def start(self, keep_state: bool, with_last_good: bool) -> None:
        """As relayd/app.py does it.

        Args:
            keep_state: whether it finds the state of the relay before.
            with_last_good: whether it finds the last good sessions.
        """
        lookups = Lookups(self._control_plane.ask)
        self.table = Table(self.limits, self._new_connection_id)
        self.engine = Engine(self.table, lookups)
        self.engine.guesses = Guesses(self.limits, MOST_SOURCES)
        self.engine._refusals = RefusalLimiter(self.limits, MOST_SOURCES)
        self._state = VirtualState(self.now, self._state if keep_state else None)
        self._records = Records(self._state, self.now)
        self.engine.counters.continue_in(self._records.counters_memory())
        self._records.follow(self.table.followers)
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self._records))
        self.table.followers.subscribe(Phase.READERS, self)
        self.table.followers.subscribe_to_users(Phase.READERS, self)
        self._restoration = Restoration(
            state=self._state,
            records=self._records,
            table=self.table,
            endpoints=_ENDPOINTS,
            counters=self.engine.counters,
            now=self.now,
            longest_silence_seconds=self.limits.user_timeout,
        )
        self._complete = False
        self._runs = True
        self.ledger.relay_started(kept=keep_state)
        self._state.beat()
        self._expiry_at = None
        self._control_plane.on_applied = self._applied
        self._schedule.after(_LONGEST_WAIT_SECONDS, self._open_for(self.table))
        self._control_plane.connect(self.table, lookups, self.now, with_last_good)
        self._plan_expiry()

    def _open_for(self, table: Table) -> Callable[[], None]:
        """Takes in what waits in the sockets, if that relay is still the one that runs."""

        def open_sockets() -> None:
            if self.table is not table or self.up:
                return
            self.up = True
            while self._queue and self.up:
                self.receive(*self._queue.popleft())

        return open_sockets

    def stop(self, sockets_stay: bool) -> None:
        """The process ends, whatever it was doing.

        Args:
            sockets_stay: whether somebody holds its sockets meanwhile, so that what arrives waits there.
        """
        assert self._state is not None
        # Somebody was there until the last full second.
        self._state.beat_at = max(self._state.beat_at, self.now() - self.now() % _BEAT_SECONDS)
        self.up = self._runs = False
        self.restarts += 1
        self._control_plane.disconnect()
        self._queue = deque(maxlen=_SOCKET_QUEUE if sockets_stay else 0)

    def jump(self, seconds: float) -> None:
        """The relay's clock goes ahead: the machine was suspended."""
        self.jumped_seconds += seconds
        self._expiry_at = None
        self._plan_expiry()

    def check_step(self) -> None:
        """Raises AssertionError if what the relay knows contradicts itself."""
        self.ledger.check(self.table)

    def check(self) -> None:
        """Raises AssertionError if something should have ended by now and has not."""
        if self._runs:
            self.ledger.expired(self.table, self.now())

    # Datagrams

    def receive(self, endpoint: Endpoint, data: bytes, source: Address) -> None:
        """The way of a datagram, as relayd/forwarding/python/udp.py goes it."""
        if not self.up:
            self._queue.append((endpoint, data, source))
            return
        now = self.now()
        self.ledger.arrives(self.table, endpoint, data, source, now)
        action = self.engine.handle(endpoint, data, source, now)
        sent = action.endpoint is not None and self._random.random() >= self.unsent_share
        if action.endpoint is not None and not sent:
            self.engine.unsent(endpoint, len(data), action, Verdict.SEND_QUEUE_FULL)
        if action.player is not None:
            self._records.account(action.player.user)
        self.ledger.handled(self.table, self.engine, endpoint, data, source, now, action, sent)
        self._plan_expiry()
        if sent and action.endpoint is not None:
            self._network.send_to_peer(action.endpoint, action.datagram, action.to)

    # Changes

    def _applied(self, followed: bool) -> None:
        if followed and not self._complete:
            self._complete = True
            self._restoration.finish()
            self.restored_bindings += self._restoration.restored
            self.ledger.restored(self.table)
        if not self.up:
            self._schedule.after(0.0, self._open_for(self.table))
        self._plan_expiry()

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        if event.kind is EventKind.SESSION_IDLE:
            self._control_plane.ended(event.session.session_id)
        self.ledger.changed(event, self.now())

    def authorized(self, user: User, admitted: bool) -> None:
        """Follows who is in a session."""
        if not admitted:
            self.ledger.revoked(user)

    # Time

    def _plan_expiry(self) -> None:
        deadline = self.table.next_deadline()
        if deadline is None or not self._runs:
            return
        at = deadline - self.jumped_seconds
        if self._expiry_at is None or at < self._expiry_at:
            self._expiry_at = at
            table = self.table
            self._schedule.at(at, lambda: self._expire(table, at))

    def _expire(self, table: Table, planned: float) -> None:
        if table is not self.table or not self._runs or planned != self._expiry_at:
            return
        self._expiry_at = None
        while self.table.expire(self.now(), _EXPIRY_BUDGET):
            pass
        self.ledger.expired(self.table, self.now())
        self._plan_expiry()
