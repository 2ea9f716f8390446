"""Recorded games of the real clients, played again through a relay: it has to deliver what they saw delivered."""

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.captures import FISHNET_GAME, GAMES, Capture, Recorded, load_capture
from tests.integration.config import new_token, with_forwarder
from tests.integration.conftest import StartRelay
from tests.integration.peers import INVALID, VALID, Host, Peer, Player
from tests.integration.relay_process import RelayProcess, counted, told

pytestmark = pytest.mark.usefixtures("forwarder")

_FIRST = 3
_ONE_OF_EACH_CLIENT = ("game-host-2-clients", FISHNET_GAME)

REBIND_AFTER_SECONDS = 0.5
"""The relay's default. Both restarts in the recordings come later than that after the last sign of life."""


class Replay:
    """Plays a recording: what arrived at the stand-in is sent, and must come out where it came out of the stand-in.

    Connection ids are mapped: the recording's, which the stand-in kept whatever a player's address, to the relay's,
    which are random and, for a player that was killed and comes back, new. The recorded host answers under the only
    id it ever knew. A real one would answer each connection under its own id, so what it says goes to the id of the
    connection that the recording shows as its receiver.
    """

    def __init__(self, relay: RelayProcess, capture: Capture, stack: ExitStack) -> None:
        self.capture = capture
        self.players: dict[str, Player] = {}
        self.ids: dict[str, int] = {}
        """The relay's connection id of each player address."""
        self.sent: list[Recorded] = []
        self.heard_by_host: list[tuple[str, bytes]] = []
        self.heard_by_players: dict[str, list[bytes]] = {}
        for name, port in capture.peers().items():
            if port == "server":
                self.host = stack.enter_context(Host(relay.address(port), capture.session.host, capture.session.token))
            else:
                self.players[name] = stack.enter_context(Player(relay.address(port), 0, 0))
                self.heard_by_players[name] = []
        self._said: Counter[str] = Counter()
        self._deliveries = capture.delivery_of_host_data()
        self._last_heard: dict[str, tuple[str, float]] = {}
        """Of each player by name: from where and when it last sent."""

    def run(self, after_the_first: Callable[[], object] = lambda: None) -> None:
        """Plays it.

        Args:
            after_the_first: called after each of a peer's first datagrams, which in the real game had tens of
                milliseconds between them.
        """
        for index, recorded in enumerate(self.capture.datagrams):
            if not recorded.arrived:
                continue
            self.sent.append(recorded)
            if recorded.port == "client":
                self._await_silence_before_a_restart(recorded.peer)
            if not recorded.is_data:
                self._ping(self.host if recorded.port == "server" else self.players[recorded.peer], recorded)
            elif recorded.port == "client":
                self._player_says(recorded)
            else:
                self._host_says(recorded, self._deliveries[index])
            self._said[recorded.peer] += 1
            if self._said[recorded.peer] <= _FIRST:
                after_the_first()

    def _ping(self, peer: Peer, recorded: Recorded) -> None:
        peer.send(recorded.datagram)
        assert peer.receive() == VALID

    def _player_says(self, recorded: Recorded) -> None:
        self.players[recorded.peer].send(recorded.datagram)
        connection_id, payload = self.host.hear()
        assert self.ids.setdefault(recorded.peer, connection_id) == connection_id
        self.heard_by_host.append((recorded.peer, payload))

    def _host_says(self, recorded: Recorded, receiver: str) -> None:
        mapped = struct.pack("<i", self.ids[receiver])
        self.host.send(recorded.datagram[:9] + mapped + recorded.datagram[13:])
        self.heard_by_players[receiver].append(self.players[receiver].hear())

    def _await_silence_before_a_restart(self, peer: str) -> None:
        """The game is played faster than it was, except where the relay's rules look at the clock."""
        name = peer.partition("@")[0]
        before, at = self._last_heard.get(name, (peer, 0.0))
        if before != peer:
            time.sleep(max(0.0, at + REBIND_AFTER_SECONDS + 0.05 - time.monotonic()))
        self._last_heard[name] = peer, time.monotonic()


def data(capture: Capture, peer: str, arrived: bool) -> list[bytes]:
    """The payloads that the stand-in received from a peer, or sent to it."""
    return [d.payload for d in capture.datagrams if d.peer == peer and d.arrived is arrived and d.is_data]


@pytest.mark.parametrize("name", GAMES)
def test_the_relay_delivers_what_the_recorded_game_saw_delivered(name: str, start_relay: StartRelay) -> None:
    capture = load_capture(name)
    relay = start_relay([capture.session])
    before = relay.counts()
    with ExitStack() as stack:
        replay = Replay(relay, capture, stack)
        replay.run()

        for peer, heard in replay.heard_by_players.items():
            assert heard == data(capture, peer, arrived=False)
            assert [payload for sender, payload in replay.heard_by_host if sender == peer] == data(
                capture, peer, arrived=True
            )
        host = next(peer for peer, port in capture.peers().items() if port == "server")
        # Between two players the stand-in's order was chance.
        assert sorted(payload for _, payload in replay.heard_by_host) == sorted(data(capture, host, arrived=False))

        relay.assert_counted(
            before,
            *(
                counted(port, verdict, *(d.datagram for d in replay.sent if d.port == port and d.is_data is is_data))
                for port in ("server", "client")
                for verdict, is_data in (("forwarded", True), ("answered", False))
            ),
        )
        assert [peer.received_by_now() for peer in (replay.host, *replay.players.values())] == [[]] * (
            1 + len(replay.players)
        )


def test_a_restarted_player_has_a_new_id_and_hears_nothing_for_the_old_one(start_relay: StartRelay) -> None:
    capture = load_capture("game-client-restart")
    relay = start_relay([capture.session])
    none = relay.counts()
    with ExitStack() as stack:
        replay = Replay(relay, capture, stack)
        replay.run()
        relay.counted_since(none, len(replay.sent))

        first, second, third = (peer for peer in replay.players if peer.startswith("c2@"))
        assert len(set(replay.ids.values())) == len(replay.ids) == 4
        before = relay.counts()
        # To the retired ids first: were they still good for anything, it would come before the datagram that follows.
        lost = [replay.host.say(replay.ids[old], b"for the connection that was killed") for old in (first, second)]
        kept = replay.host.say(replay.ids[third], b"for the player that is there")
        assert replay.players[third].hear() == b"for the player that is there"
        relay.assert_counted(
            before, counted("server", "unknown_connection", *lost), counted("server", "forwarded", kept)
        )
        assert all(player.received_by_now() == [] for player in replay.players.values())


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, forwarder: str) -> Iterator[RelayProcess]:
    limits = {"refusals_per_second": 0xFFFF, "refusals_per_source_per_second": 0xFFFF}
    sessions = [load_capture(name).session for name in _ONE_OF_EACH_CLIENT]
    overrides = with_forwarder(forwarder, {"limits": limits})
    with RelayProcess(tmp_path_factory.mktemp("relay"), sessions, overrides) as process:
        yield process


@pytest.mark.parametrize("wrong", ["user", "session", "both"])
@pytest.mark.parametrize("name", _ONE_OF_EACH_CLIENT)
def test_a_recorded_player_with_wrong_tokens_gets_nowhere(name: str, wrong: str, relay: RelayProcess) -> None:
    capture = load_capture(name)
    user = new_token() if wrong != "session" else capture.session.players[0]
    session = new_token() if wrong != "user" else capture.session.token
    with (
        relay.host(capture.session) as host,
        Player(relay.address("client"), user, session) as stranger,
    ):
        host.ping_until(VALID)
        before = relay.counts()
        sent: list[bytes] = []
        for recorded in capture.datagrams:
            if recorded.arrived and recorded.peer.startswith("c1@"):
                sent.append(stranger.send(stranger.header + recorded.datagram[8:]))
                assert stranger.receive() == INVALID
        fence = host.send_ping()
        assert host.receive() == VALID
        relay.assert_counted(
            before,
            counted("client", "unknown_pair", *sent),
            told("client", "invalid", len(sent)),
            counted("server", "answered", fence),
        )
