"""`relayd upgrade`: another program in the same process goes on, and the games with it."""

import asyncio
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from relayd.core.wire import State
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.peers import Player
from tests.integration.commands import relayd
from tests.integration.config import new_session
from tests.integration.conftest import StartRelay
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

PLAYERS = 4
UPGRADES = 2

pytestmark = pytest.mark.usefixtures("forwarder")


def test_a_game_plays_on(start_relay: StartRelay, hellos: Counter[type]) -> None:
    session = new_session("upgrade", players=PLAYERS)
    relay = start_relay([session])
    pid = relay.process.pid
    keys = GameKeys(relay.address("server"), relay.address("client"), session.token, session.host, session.players)
    game = Game(keys)
    instances = {relay.get_json("/v1/status")["instance"]}

    def upgrade() -> None:
        heard = max(report.received for report in game.reports())
        done = relayd("upgrade", "--config", str(relay.config_path))
        assert (done.returncode, done.stdout) == (0, "relayd 0.1.0 was replaced by 0.1.0\n")
        instances.add(relay.get_json("/v1/status")["instance"])
        eventually(lambda: all(report.received > heard + 10 for report in game.reports()), "everybody plays on")

    async def play() -> None:
        task = asyncio.create_task(game.play())
        await asyncio.to_thread(eventually, lambda: all(report.received > 10 for report in game.reports()), "they play")
        for _ in range(UPGRADES):
            await asyncio.to_thread(upgrade)
        game.stop()
        await task

    asyncio.run(play())
    assert len(instances) == 1 + UPGRADES
    assert relay.process.poll() is None
    assert relay.process.pid == pid
    assert all(peer.states_seen == {State.VALID} for peer in (game.host, *game.players))
    assert len(game.host.all_connections()) == PLAYERS
    assert game.flawless, game.reports()
    forwarded = relay.metrics()["relayd_datagrams_total", "client", "forwarded"]
    assert forwarded == sum(player.sent for player in game.players) + hellos[Player]


def test_without_a_relay_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "relayd.toml"
    config.write_text('[admin]\nbind = "127.0.0.1:1"\n')
    done = relayd("upgrade", "--config", str(config))
    assert done.returncode == 69
    assert "no relay answers on 127.0.0.1:1" in done.stderr


def test_a_relay_that_drains_goes_on_to_drain(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("one")])
    instance = relay.get_json("/v1/status")["instance"]
    assert relayd("drain", "--config", str(relay.config_path)).returncode == 0
    done = relayd("upgrade", "--config", str(relay.config_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "the relay is draining" in done.stderr
    assert relay.get_json("/v1/status")["instance"] == instance
    assert relay.get_json("/v1/drain")["draining"] is True


def test_a_program_that_is_gone_replaces_nothing(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "relay"
    folder.mkdir()
    shutil.copytree(REPOSITORY / "relayd", home / "relayd")
    with RelayProcess(folder, [new_session("one")], home=home) as relay:
        instance = relay.get_json("/v1/status")["instance"]
        (home / "relayd" / "__main__.py").unlink()
        done = relayd("upgrade", "--config", str(relay.config_path))
        assert (done.returncode, done.stdout) == (1, "")
        assert "this one goes on" in done.stderr
        assert "__main__.py: No such file" in done.stderr
        assert relay.get_json("/v1/status")["instance"] == instance


def test_a_reload_at_any_moment_of_it_does_no_harm(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("one")])
    over = threading.Event()

    def reload() -> None:
        while not over.wait(0.001):
            relay.process.send_signal(signal.SIGHUP)

    reloading = threading.Thread(target=reload)
    reloading.start()
    try:
        done = relayd("upgrade", "--config", str(relay.config_path))
    finally:
        over.set()
        reloading.join()
    assert (done.returncode, done.stderr) == (0, "")
    assert relay.process.poll() is None
