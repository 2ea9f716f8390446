"""One simulated game: its peers, its clock, and what it has to report."""

import asyncio
import secrets
import statistics
from typing import NamedTuple

from relayd.core.wire import State
from relayd.simulation.peers import TICKS_PER_SECOND, Host, Peer, Player

_LAST_ARRIVALS_SECONDS = 1.0
_LAST_ARRIVALS_CHECKS = 100


class GameKeys(NamedTuple):
    """Where a game is played and with which tokens."""

    server_address: tuple[str, int]
    client_address: tuple[str, int]
    session_token: int
    host_token: int
    player_tokens: tuple[int, ...]


class PlayerReport(NamedTuple):
    """How one player fares."""

    number: int
    state: State | None
    became_valid: bool
    sent: int
    lost_to_host: int
    received: int
    lost_to_player: int
    unordered: int
    """Duplicated or out of order, both ways."""
    corrupted: int
    unreachable: int
    longest_pause_seconds: float
    """Between two messages of the host."""
    round_trip_p50_seconds: float | None
    round_trip_p99_seconds: float | None

    @property
    def flawless(self) -> bool:
        """Let in, and every message in both directions arrived once, in order, as it was sent."""
        return self.became_valid and not (
            self.lost_to_host or self.lost_to_player or self.unordered or self.corrupted or self.unreachable
        )


class Game:
    """A host and players on the running event loop, at 30 messages a second each way."""

    def __init__(self, keys: GameKeys) -> None:
        self._keys = keys
        game = secrets.randbits(32)
        self.host = Host(keys.host_token, keys.session_token, game)
        self.players = [
            Player(token, keys.session_token, game, number) for number, token in enumerate(keys.player_tokens)
        ]
        self._playing = True

    async def play(self) -> None:
        """Plays until `stop`; messages under way then have a second to arrive."""
        loop = asyncio.get_running_loop()
        await self._connect(self.host, self._keys.server_address)
        for player in self.players:
            await self._connect(player, self._keys.client_address)
        next_tick = loop.time()
        while self._playing:
            self.host.tick(loop.time())
            for player in self.players:
                player.tick(loop.time())
            next_tick = max(next_tick + 1 / TICKS_PER_SECOND, loop.time())
            await asyncio.sleep(next_tick - loop.time())
        for _ in range(_LAST_ARRIVALS_CHECKS):
            if self.flawless:
                break
            await asyncio.sleep(_LAST_ARRIVALS_SECONDS / _LAST_ARRIVALS_CHECKS)
        for peer in (self.host, *self.players):
            peer.close()

    def stop(self) -> None:
        """Ends the game with the next tick."""
        self._playing = False

    def reports(self) -> list[PlayerReport]:
        """How every player fares. While the game runs, messages under way count as lost."""
        return [self._report(player) for player in self.players]

    @property
    def flawless(self) -> bool:
        """Whether every player was let in and lost nothing."""
        host_fine = not (self.host.corrupted or self.host.unreachable)
        return host_fine and all(report.flawless and report.sent for report in self.reports())

    async def _connect(self, peer: Peer, address: tuple[str, int]) -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: peer, remote_addr=address)

    def _report(self, player: Player) -> PlayerReport:
        connection = self.host.connections.get(player.number)
        tallies = (player.tally, *((connection.tally,) if connection else ()))
        trips = sorted(player.round_trips_seconds)
        return PlayerReport(
            number=player.number,
            state=player.state,
            became_valid=player.became_valid,
            sent=player.sent,
            lost_to_host=connection.tally.lost(player.sent) if connection else player.sent,
            received=player.tally.received,
            lost_to_player=player.tally.lost(connection.sent) if connection else 0,
            unordered=sum(tally.duplicated + tally.reordered for tally in tallies),
            corrupted=player.corrupted,
            unreachable=player.unreachable,
            longest_pause_seconds=player.silence.longest_seconds,
            round_trip_p50_seconds=statistics.median(trips) if trips else None,
            round_trip_p99_seconds=trips[(len(trips) * 99) // 100] if trips else None,
        )
