"""One world: a relay, its control plane, and rounds of games in which everything goes wrong for a while.

A round: games begin, faults come one after another, all faults end; and then, within a bounded time, everybody who
keeps sending has to be in and to be heard. Between the rounds are pauses in which nothing but time passes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from fuzz.faults.control_plane import ControlPlane
from fuzz.faults.games import Game
from fuzz.faults.mischief import Mischief
from fuzz.faults.network import FINE, Network, Weather
from fuzz.faults.peers import KCP_TIMEOUT_SECONDS
from fuzz.faults.relay import SimulatedRelay
from fuzz.faults.schedule import Schedule
from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.host_policy import HostPolicy
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict

HOUR_SECONDS = 3600.0
_ENOUGH_RESTARTS = 10
"""Of so many, some find a state, sockets and somebody who was there."""
_MEAN_PAUSE_SECONDS = 1800.0
_SETTLING_SECONDS = 10.0
_FAULTS_SECONDS = (30.0, 180.0)
_MEAN_BETWEEN_FAULTS_SECONDS = 8.0
_LATEST_SYNC_SECONDS = 5.0
_MOST_GAMES = 3


@dataclass(frozen=True)
class Figures:
    """What happened, in one world or in several."""

    hours: float = 0.0
    played_hours: float = 0.0
    """Of them, those with games; in the others nothing but time passes."""
    steps: int = 0
    """Of the schedule."""
    checks: int = 0
    games: int = 0
    lost: int = 0
    """Datagrams, by the network, before or after a relay."""
    doubled: int = 0
    overtaken: int = 0
    restarts: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def datagrams(self) -> int:
        """Judged by a relay."""
        return self.verdicts.total()

    def plus(self, more: "Figures") -> "Figures":
        """Of both together."""
        return Figures(
            self.hours + more.hours,
            self.played_hours + more.played_hours,
            self.steps + more.steps,
            self.checks + more.checks,
            self.games + more.games,
            self.lost + more.lost,
            self.doubled + more.doubled,
            self.overtaken + more.overtaken,
            self.restarts + more.restarts,
            self.verdicts + more.verdicts,
            self.faults + more.faults,
        )


class World:
    """Everything, from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._schedule = Schedule()
        self._network = Network(self._schedule, self._random)
        hold_seconds = self._random.choice((0.0, 10.0, 30.0))
        self._control_plane = ControlPlane(self._schedule, self._random, hold_seconds)
        self._control_plane.on_ended = self._session_ended
        limits = _limits(self._random)
        self._anybody_hosts = limits.host_policy is not HostPolicy.STRICT
        self._relay = SimulatedRelay(self._schedule, self._network, self._control_plane, self._random, limits)
        self._schedule.after_each = self._relay.check_step
        self._mischief = Mischief(self._schedule, self._network, self._random)
        self._games: dict[str, Game] = {}
        self._played_seconds = 0.0
        self._made = 0
        self._faults: Counter[str] = Counter()
        slowest_seconds = KCP_TIMEOUT_SECONDS + 3 * 4.0
        self._back_within_seconds = (
            3 * slowest_seconds + 2 * limits.host_timeout + hold_seconds + 2 * _LATEST_SYNC_SECONDS
        )
        self._kinds: dict[str, Callable[[], None]] = {
            "weather": self._weather,
            "control plane away": self._control_plane_away,
            "control plane lies": self._control_plane_lies,
            "relay restarts": self._restart_relay,
            "relay drains": self._drain,
            "clock jumps": self._jump,
            "kernel sends not all": self._send_less,
            "rebinding": lambda: self._in_a_game(Game.rebind),
            "program restarts": lambda: self._in_a_game(Game.restart),
            "somebody floods": lambda: self._in_a_game(Game.flood),
            "somebody falls silent": lambda: self._in_a_game(Game.fall_silent),
            "tokens are guessed": lambda: self._in_a_game(self._guess),
            "a token is stolen": lambda: self._in_a_game(lambda game: self._mischief.steal(game.somebody())),
            "host crashes": lambda: self._in_a_game(Game.host_crashes),
            "players come and go": lambda: self._in_a_game(Game.leave_and_join),
        }

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self._schedule.now

    def run(self, hours: float) -> Figures:
        """As many rounds as begin within that time."""
        while self.now < hours * HOUR_SECONDS:
            self.run_round()
        assert self._relay.restarts < _ENOUGH_RESTARTS or self._relay.restored_bindings, "nobody ever came back"
        return self.figures()

    def run_round(self) -> None:
        """A pause and a round."""
        self._run(self._random.expovariate(1 / _MEAN_PAUSE_SECONDS))
        began = self.now
        for _ in range(self._random.randint(1, _MOST_GAMES)):
            self._begin_game()
        self._run(_SETTLING_SECONDS)
        end = self.now + self._random.uniform(*_FAULTS_SECONDS)
        while self.now < end:
            name = self._random.choice(list(self._kinds))
            self._faults[name] += 1
            self._kinds[name]()
            self._run(self._random.expovariate(1 / _MEAN_BETWEEN_FAULTS_SECONDS))
        self._end_all_faults()
        self._run(self._back_within_seconds)
        for game in self._games.values():
            game.check_that_everybody_plays()
        for game in list(self._games.values()):
            game.end(deleted=self._random.random() < 0.5)
        self._games.clear()
        self._played_seconds += self.now - began

    def figures(self) -> Figures:
        """What happened so far."""
        verdicts: Counter[Verdict] = Counter()
        for of_port in self._relay.ledger.verdicts:
            verdicts.update({verdict: of_port[verdict] for verdict in Verdict})
        return Figures(
            hours=self.now / HOUR_SECONDS,
            played_hours=self._played_seconds / HOUR_SECONDS,
            steps=self._schedule.steps,
            checks=self._relay.ledger.checks,
            games=self._made,
            lost=self._network.lost,
            doubled=self._network.doubled,
            overtaken=self._network.overtaken,
            restarts=self._relay.restarts,
            verdicts=verdicts,
            faults=self._faults,
        )

    def _run(self, seconds: float) -> None:
        self._schedule.run_until(self.now + seconds)
        self._relay.check()

    def _begin_game(self) -> None:
        self._made += 1
        game = Game(
            self._made,
            self._schedule,
            self._network,
            self._control_plane,
            self._random,
            anybody_hosts=self._anybody_hosts,
        )
        self._games[game.session_id] = game

    def _session_ended(self, session_id: str) -> None:
        """The relay ended an idle session: peers that come now are too late."""
        game = self._games.pop(session_id, None)
        if game is not None:
            game.end(deleted=False)

    # Faults

    def _in_a_game(self, fault: Callable[[Game], None]) -> None:
        games = [game for game in self._games.values() if game.peers()]
        if games:
            fault(self._random.choice(games))

    def _guess(self, game: Game) -> None:
        """Tokens are guessed, and somebody comes from elsewhere meanwhile."""
        self._mischief.guess(game.somebody())
        game.somebody().move(same_ip=False)

    def _weather(self) -> None:
        choose = self._random
        self._network.weather = choose.choice(
            (
                FINE,
                Weather(loss=choose.random() * 0.5),
                Weather(loss=0.02, doubled=choose.random() * 0.3, longest_delay_seconds=choose.random() * 3.0),
                Weather(longest_delay_seconds=choose.random() * 20.0),
                Weather(loss=1.0),
            )
        )

    def _control_plane_away(self) -> None:
        self._control_plane.away = not self._control_plane.away

    def _control_plane_lies(self) -> None:
        self._control_plane.lies = self._random.choice((0.0, 0.5, 1.0))
        self._control_plane.sync_after(0.0)

    def _restart_relay(self) -> None:
        choose = self._random
        if not self._relay.up:
            return
        self._relay.stop(sockets_stay=choose.random() < 0.8)
        start = partial(self._relay.start, keep_state=choose.random() < 0.8, with_last_good=choose.random() < 0.8)
        self._schedule.after(choose.expovariate(1 / 3.0), start)

    def _drain(self) -> None:
        self._relay.engine.draining = not self._relay.engine.draining

    def _jump(self) -> None:
        self._relay.jump(self._random.choice((1.0, 29.0, 31.0, 61.0, 301.0, HOUR_SECONDS)))

    def _send_less(self) -> None:
        self._relay.unsent_share = self._random.choice((0.0, 0.1, 1.0))

    def _end_all_faults(self) -> None:
        self._network.weather = FINE
        self._control_plane.away = False
        self._control_plane.lies = 0.0
        self._control_plane.sync_after(0.0)
        self._relay.unsent_share = 0.0
        self._relay.engine.draining = False


def _limits(random: Random) -> Limits:
    """Rates let games without a fault through, and have whole nanoseconds for a datagram or a byte: see `Budgets`."""
    return Limits(
        user_timeout=random.choice((30.0, 20.0)),
        host_timeout=random.choice((10.0, 3.0)),
        rebind_after=random.choice((0.5, 0.0)),
        session_idle_timeout=random.choice((300.0, 60.0, 0.0)),
        connection_id_policy=random.choice(list(ConnectionIdPolicy)),
        host_policy=random.choice(list(HostPolicy)),
        user_datagrams_per_second=random.choice((0, 4, 16)),
        user_bytes_per_second=random.choice((0, 1280)),
        host_datagrams_per_second=random.choice((0, 16, 256)),
        host_bytes_per_second=random.choice((0, 2560)),
        session_datagrams_per_second=random.choice((0, 32, 128)),
        session_bytes_per_second=random.choice((0, 2560)),
        guesses_per_second=random.choice((64, 4)),
        guesses_per_source_per_second=random.choice((16, 2)),
        refusals_per_second=random.choice((1024, 16)),
        refusals_per_source_per_second=random.choice((8, 2)),
    )
