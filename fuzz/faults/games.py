"""A game in the world: a session with a host and players, and what they do of their own accord."""

from functools import partial
from random import Random

from fuzz.faults.control_plane import ControlPlane, spec
from fuzz.faults.network import Network
from fuzz.faults.peers import Host, Peer, Player
from fuzz.faults.schedule import Schedule

_LONGEST_FLOOD = 60
"""What one says at once, in a relay's rates of a few seconds."""
_TO_SILENT = 150
"""What a host sends to one who is not heard: more than a relay lets through."""
_SILENT_SECONDS = 5.0

_PEOPLE = 5
"""Users a session begins with: a host, players, and one that may become host."""


class Game:
    """One session.

    Args:
        number: tells it from all others.
        schedule: the clock.
        network: carries what its peers send.
        control_plane: is asked for the session.
        random: chooses when who comes.
    """

    def __init__(
        self,
        number: int,
        schedule: Schedule,
        network: Network,
        control_plane: ControlPlane,
        random: Random,
        *,
        anybody_hosts: bool,
    ) -> None:
        self.session_id = f"game-{number}"
        self.token = 1_000_000 + number
        self.over = False
        self.interval_seconds = random.uniform(2.0, 4.0)
        self.host: Host | None = None
        self.players: dict[int, Player] = {}
        self._schedule = schedule
        self._network = network
        self._control_plane = control_plane
        self._random = random
        self._anybody_hosts = anybody_hosts
        self._users = [10 * number + index for index in range(_PEOPLE)]
        self._say_who_is_in()
        schedule.after(random.uniform(0.0, 4.0), partial(self.host_comes, self._users[0]))
        for user in self._users[1 : 1 + random.randrange(1, 4)]:
            schedule.after(random.uniform(0.0, 4.0), partial(self.player_comes, user))

    def _say_who_is_in(self) -> None:
        self._control_plane.sessions[self.session_id] = spec(self.session_id, self.token, self._users)
        self._control_plane.sync_after(self._random.uniform(0.0, 1.0))

    def end(self, deleted: bool) -> None:
        """Everybody leaves.

        Args:
            deleted: whether somebody says so to the control plane.
        """
        self.over = True
        for peer in self.peers():
            peer.leave()
        if deleted and self._control_plane.sessions.pop(self.session_id, None) is not None:
            self._control_plane.sync_after(self._random.uniform(0.0, 1.0))

    def peers(self) -> list[Peer]:
        """All who are there."""
        return [*self.players.values(), *([self.host] if self.host is not None else [])]

    def host_comes(self, user: int) -> None:
        """This user is the host from now on; another if it has left for good meanwhile."""
        if self.over:
            return
        if user not in self._users or not self._anybody_hosts:
            user = self._users[0]
        if self.host is not None:
            self.host.leave()
        player = self.players.pop(user, None)
        if player is not None:
            player.leave()
        self.host = Host(self._network, self._schedule, self._random, self.token, user, self.interval_seconds)

    def player_comes(self, user: int) -> None:
        """One more plays."""
        if not self.over and user not in self.players and (self.host is None or self.host.user != user):
            self.players[user] = Player(
                self._network, self._schedule, self._random, self.token, user, self.interval_seconds
            )

    # What may happen to it

    def rebind(self) -> None:
        """A NAT gives somebody another port, or another address."""
        self.somebody().move(same_ip=self._random.random() < 0.5)

    def restart(self) -> None:
        """Somebody's program is ended and started again."""
        peer = self.somebody()
        if isinstance(peer, Host | Player):
            peer.restart()

    def host_crashes(self) -> None:
        """And comes back after a while, or another user becomes host in its place."""
        if self.host is None:
            return
        self.host.leave()
        user = self.host.user if self._random.random() < 0.5 else self._random.choice(self._users)
        self._schedule.after(self._random.uniform(0.0, 15.0), partial(self.host_comes, user))

    def leave_and_join(self) -> None:
        """One player leaves for good or is kicked and goes on for a while, and a new one is let in."""
        if self.players:
            gone = self._random.choice(sorted(self.players))
            player = self.players.pop(gone)
            self._schedule.after(self._random.choice((0.0, self._random.uniform(1.0, 15.0))), player.leave)
            self._users.remove(gone)
        new = max(self._users) + 1
        self._users.append(new)
        self._say_who_is_in()
        # Before the relay can know of it, as often as not.
        self._schedule.after(self._random.uniform(0.0, 2.0), partial(self.player_comes, new))

    def flood(self) -> None:
        """Somebody sends far more than it should."""
        self.somebody().flood(self._random.randint(1, _LONGEST_FLOOD))

    def fall_silent(self) -> None:
        """Somebody is not heard for a while, and its host goes on sending."""
        peer = self.somebody()
        seconds = self._random.uniform(1.0, 3 * _SILENT_SECONDS)
        peer.muted_until = self._schedule.now + seconds
        self._schedule.after(seconds * self._random.random(), self._host_floods)

    def _host_floods(self) -> None:
        if self.host is not None and not self.over:
            self.host.flood(_TO_SILENT)

    def somebody(self) -> Peer:
        """Any who is there."""
        return self._random.choice(self.peers())

    # What has to be in the end

    def check_that_everybody_plays(self) -> None:
        """Raises AssertionError if somebody who keeps sending does not get through."""
        now = self._schedule.now
        patience_seconds = 4 * self.interval_seconds
        for peer in self.peers():
            who = f"{type(peer).__name__.lower()} {peer.user} of {self.session_id}, told {peer.refused}"
            assert peer.valid_at is not None, f"never let in: {who}"
            assert now - peer.valid_at < patience_seconds, f"not valid for {now - peer.valid_at:.1f} s: {who}"
            if isinstance(peer, Player) and self.host is not None:
                silent_seconds = now - peer.heard_at
                assert silent_seconds < patience_seconds, f"heard nothing for {silent_seconds:.1f} s: {who}"
