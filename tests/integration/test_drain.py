"""Draining by command, over HTTP and by SIGTERM: no new games, and those that run play on."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, new_session, new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import ERROR, VALID
from tests.integration.programs import REPOSITORY, command
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.waiting import PATIENCE_SECONDS, eventually

ON_SIGTERM = {"drain": {"on_sigterm": True}}
PLAYING = {"draining": True, "active_sessions": 1, "bound_users": 1, "control_plane_told": None}


def drain(relay: RelayProcess, *options: str) -> "subprocess.CompletedProcess[str]":
    return relayd("drain", *options, "--config", str(relay.config_path))


def status(relay: RelayProcess) -> dict[str, Any]:
    shown: dict[str, Any] = relay.get_json("/v1/drain")
    return shown


def begin_sigterm(relay: RelayProcess) -> None:
    relay.process.send_signal(signal.SIGTERM)
    eventually(lambda: status(relay)["draining"], "SIGTERM has begun the drain")


def assert_ends(relay: RelayProcess) -> None:
    assert relay.process.wait(PATIENCE_SECONDS) == 0, relay.stderr


@pytest.fixture
def sessions() -> list[SessionKeys]:
    return new_sessions("playing", "new")


def test_it_can_be_asked_for_twice_and_undone(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions)
    playing, new = sessions
    with relay.player(playing) as player, relay.player(playing, 1) as friend, relay.player(new) as newcomer:
        assert player.ping() == VALID
        for _ in range(2):
            done = drain(relay)
            assert (done.returncode, done.stdout) == (0, "draining: 1 sessions with 1 users still play\n")
        assert (player.ping(), friend.ping(), newcomer.ping()) == (VALID, VALID, ERROR)
        assert len(relay.log_lines(event="draining: new sessions are refused")) == 1
        undone = drain(relay, "--undo", "--json")
        assert json.loads(undone.stdout)["draining"] is False
        assert newcomer.ping() == VALID
        assert drain(relay, "--undo").stdout == "not draining: new games are taken\n"


def test_it_waits_until_nobody_plays(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions)
    with relay.player(sessions[0]) as player:
        assert player.ping() == VALID
        waiting = subprocess.Popen(
            command("drain", "--wait", "--json", "--config", str(relay.config_path)),
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: status(relay) == PLAYING, "it drains")
            assert player.ping() == VALID
            assert waiting.poll() is None
            relay.write_sessions(sessions[1:])
            out, err = waiting.communicate(timeout=PATIENCE_SECONDS)
        finally:
            waiting.kill()
            waiting.wait()
        assert (waiting.returncode, err) == (0, "")
        assert json.loads(out) == {**PLAYING, "active_sessions": 0, "bound_users": 0}


def test_it_waits_no_longer_than_told(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions, {"drain": {"limit_seconds": 0.1}})
    with relay.player(sessions[0]) as player:
        assert player.ping() == VALID
        for options in (("--limit", "0.1"), ()):
            done = drain(relay, "--wait", *options)
            assert (done.returncode, done.stdout) == (1, "draining: 1 sessions with 1 users still play\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [(("--undo", "--wait"), "choose one"), (("--limit", "5"), "how long --wait waits")],
)
def test_options_that_make_no_sense_together(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    assert_one_clear_line(relayd("drain", *options, "--config", str(write_config(tmp_path))), 64, says)


def test_while_no_relay_runs(tmp_path: Path) -> None:
    done = relayd("drain", "--config", str(write_config(tmp_path)))
    assert_one_clear_line(done, 69, "no relay answers on 127.0.0.1:")


def test_the_control_plane_is_told(start_relay: StartRelay) -> None:
    keys = new_session("placed")
    with StandIn(nodes=True) as control_plane:
        source = {"kind": "control_plane", "url": control_plane.url}
        relay = start_relay(None, {"source": source}, ready=False)
        ports = (relay.settings["relay"][f"{port}_port"] for port in ("server", "client"))
        control_plane.sessions = [relay_session(keys, "127.0.0.1", *ports)]
        control_plane.changed()
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the session is there")
        assert drain(relay, "--wait").returncode == 0
        assert control_plane.heartbeats[-1]["draining"] is True
        assert status(relay)["control_plane_told"] is True
        drain(relay, "--undo")
        eventually(lambda: control_plane.heartbeats[-1]["draining"] is False, "the control plane is told of the end")
        eventually(lambda: status(relay)["control_plane_told"], "the relay knows that it is")
        control_plane.close()
        eventually(lambda: status(relay)["control_plane_told"] is None, "nobody to tell")


def test_sigterm_waits_for_the_games(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions, ON_SIGTERM)
    playing, new = sessions
    with relay.player(playing) as player, relay.player(new) as newcomer:
        assert player.ping() == VALID
        begin_sigterm(relay)
        assert (player.ping(), newcomer.ping()) == (VALID, ERROR)
        relay.write_sessions([new])
        assert_ends(relay)
        assert relay.log_lines(event="drained")


def test_sigterm_with_nobody_there_ends_it_at_once(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions, ON_SIGTERM)
    relay.process.send_signal(signal.SIGTERM)
    assert_ends(relay)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    start_relay: StartRelay, sessions: list[SessionKeys], second: signal.Signals
) -> None:
    relay = start_relay(sessions, ON_SIGTERM)
    with relay.player(sessions[0]) as player:
        assert player.ping() == VALID
        begin_sigterm(relay)
        relay.process.send_signal(second)
        assert_ends(relay)


def test_sigterm_waits_no_longer_than_the_limit(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions, {"drain": {"on_sigterm": True, "limit_seconds": 0.5}})
    with relay.player(sessions[0]) as player:
        assert player.ping() == VALID
        relay.process.send_signal(signal.SIGTERM)
        assert_ends(relay)
        assert relay.log_lines(event="not drained within drain.limit_seconds", bound_users=1)


def test_a_drain_by_sigterm_can_be_undone(start_relay: StartRelay, sessions: list[SessionKeys]) -> None:
    relay = start_relay(sessions, ON_SIGTERM)
    playing, new = sessions
    with relay.player(playing) as player, relay.player(new) as newcomer:
        assert player.ping() == VALID
        begin_sigterm(relay)
        drain(relay, "--undo")
        relay.write_sessions([new])
        eventually(lambda: status(relay)["active_sessions"] == 0, "the game is over")
        # It stays, takes new games, and begins anew with the next signal.
        assert newcomer.ping() == VALID
        begin_sigterm(relay)
        assert newcomer.ping() == VALID
        relay.process.send_signal(signal.SIGTERM)
        assert_ends(relay)
