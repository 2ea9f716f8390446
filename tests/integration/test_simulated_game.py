"""The simulated game notices whatever goes wrong on its way: played through something in between that does wrong."""

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple

import pytest

from relayd.simulation.game import Game, GameKeys, PlayerReport
from tests.integration.config import new_sessions, new_token
from tests.integration.peers import DATA, Address
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import PATIENCE_SECONDS

Harm = Callable[[bytes], list[bytes]]
"""What becomes of one datagram."""

EVERY = 5
"""One in so many datagrams of DATA is harmed."""
PLAYERS = 2
ENOUGH_MESSAGES = 12


def fine(datagram: bytes) -> list[bytes]:
    return [datagram]


def lose(datagram: bytes) -> list[bytes]:
    return []


def alter(datagram: bytes) -> list[bytes]:
    return [datagram[:-1] + bytes((datagram[-1] ^ 1,))]


def repeat(datagram: bytes) -> list[bytes]:
    return [datagram, datagram]


class Swap:
    """Holds a datagram back until the next one is there."""

    def __init__(self) -> None:
        self._held: bytes | None = None

    def __call__(self, datagram: bytes) -> list[bytes]:
        if self._held is None:
            self._held = datagram
            return []
        swapped, self._held = [datagram, self._held], None
        return swapped


class Harming:
    """Harms one in `EVERY` datagrams of DATA; what holds one back gets the next one too."""

    def __init__(self, harm: Harm, type_offset: int) -> None:
        self._harm = harm
        self._type_offset = type_offset
        self._count = 0

    def __call__(self, datagram: bytes) -> list[bytes]:
        if datagram[self._type_offset : self._type_offset + 1] != DATA:
            return [datagram]
        self._count += 1
        harmed = self._count % EVERY == 0 or (isinstance(self._harm, Swap) and self._count % EVERY == 1)
        return self._harm(datagram) if harmed and self._count > 1 else [datagram]


class Between:
    """Stands between players and the relay's client port, with a socket towards the relay for each player."""

    def __init__(self, relay: Address, inwards: Callable[[], Harm], outwards: Callable[[], Harm]) -> None:
        self._relay = relay
        self._inwards = inwards
        self._outwards = outwards
        self._loop = asyncio.get_running_loop()
        self._legs: dict[Address, tuple[socket.socket, Harm]] = {}
        self._outside = self._socket()
        self._outside.bind(("127.0.0.1", 0))
        self.address: Address = self._outside.getsockname()
        self._loop.add_reader(self._outside, self._from_players)

    def close(self) -> None:
        for sock in (self._outside, *(leg for leg, _ in self._legs.values())):
            self._loop.remove_reader(sock)
            sock.close()

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        return sock

    def _from_players(self) -> None:
        datagram, player = self._outside.recvfrom(2048)
        if player not in self._legs:
            leg = self._socket()
            leg.connect(self._relay)
            self._loop.add_reader(leg, self._from_relay, leg, player, Harming(self._outwards(), 0))
            self._legs[player] = leg, Harming(self._inwards(), 8)
        leg, harm = self._legs[player]
        for one in harm(datagram):
            leg.send(one)

    def _from_relay(self, leg: socket.socket, player: Address, harm: Harm) -> None:
        for one in harm(leg.recv(2048)):
            self._outside.sendto(one, player)


class Outcome(NamedTuple):
    flawless: bool
    reports: list[PlayerReport]
    corrupted_at_host: int


CASES: dict[str, tuple[Callable[[], Harm], Callable[[], Harm]]] = {
    "nothing": (lambda: fine, lambda: fine),
    "loss on the way in": (lambda: lose, lambda: fine),
    "loss on the way out": (lambda: fine, lambda: lose),
    "alteration on the way in": (lambda: alter, lambda: fine),
    "alteration on the way out": (lambda: fine, lambda: alter),
    "repetition on the way in": (lambda: repeat, lambda: fine),
    "repetition on the way out": (lambda: fine, lambda: repeat),
    "disorder on the way in": (Swap, lambda: fine),
    "disorder on the way out": (lambda: fine, Swap),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All games at once, for they take their time."""
    sessions = dict(zip(CASES, new_sessions(*CASES, players=PLAYERS), strict=True))
    with RelayProcess(tmp_path_factory.mktemp("relay"), list(sessions.values())) as relay:

        async def play(name: str) -> Outcome:
            between = Between(relay.address("client"), *CASES[name])
            session = sessions[name]
            keys = GameKeys(relay.address("server"), between.address, session.token, session.host, session.players)
            outcome = await play_until(Game(keys), lambda report: min(report.sent, report.received) > ENOUGH_MESSAGES)
            between.close()
            return outcome

        async def play_all() -> dict[str, Outcome]:
            return dict(zip(CASES, await asyncio.gather(*map(play, CASES)), strict=True))

        return asyncio.run(play_all())


async def play_until(game: Game, enough: Callable[[PlayerReport], bool]) -> Outcome:
    """Plays until every player has had enough."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        playing = asyncio.create_task(game.play())
        while not all(map(enough, game.reports())):  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.02)
        game.stop()
        await playing
    return Outcome(game.flawless, game.reports(), game.host.corrupted)


def test_a_game_to_which_nothing_happens_is_flawless(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["nothing"].flawless
    assert all(report.flawless for report in outcomes["nothing"].reports)


@pytest.mark.parametrize("harm", [name for name in CASES if name != "nothing"])
def test_whatever_happens_to_a_game_is_noticed(outcomes: dict[str, Outcome], harm: str) -> None:
    outcome = outcomes[harm]
    assert not outcome.flawless
    kind, _, way = harm.partition(" on the way ")
    for report in outcome.reports:
        assert report.became_valid
        lost = (report.lost_to_host, report.lost_to_player)
        if kind in ("repetition", "disorder"):
            assert report.unordered > 0
        else:
            # What is altered does not count as received.
            assert (lost[0] > 0, lost[1] > 0) == (way == "in", way == "out")
            assert report.unordered == 0
        assert (report.corrupted > 0) == (harm == "alteration on the way out")
    assert (outcome.corrupted_at_host > 0) == (harm == "alteration on the way in")


def test_a_player_who_is_not_let_in_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    (session,) = new_sessions("one stranger", players=1)
    with RelayProcess(tmp_path_factory.mktemp("relay"), [session]) as relay:
        tokens = (*session.players, new_token())
        keys = GameKeys(relay.address("server"), relay.address("client"), session.token, session.host, tokens)

        def enough(report: PlayerReport) -> bool:
            return report.received > 1 if report.number == 0 else report.state is not None

        outcome = asyncio.run(play_until(Game(keys), enough))
    assert not outcome.flawless
    assert [report.flawless for report in outcome.reports] == [True, False]
