"""Nothing that goes wrong beside the datagrams may stop them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.config import Sections, configuration, new_session, to_toml, write_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import VALID, Host, Player
from tests.integration.programs import command
from tests.integration.relay_process import environment
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.waiting import PATIENCE_SECONDS, eventually


@pytest.mark.parametrize("broken", ["closed pipe", "full disk"])
def test_a_log_that_cannot_be_written_stops_no_game(tmp_path: Path, broken: str) -> None:
    keys = new_session("playing", players=3)
    settings = configuration()
    (tmp_path / "relayd.toml").write_text(to_toml(settings), encoding="utf-8")
    write_sessions(tmp_path / "sessions.json", [keys])
    reading, writing = os.pipe()
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            command("run", "--config", str(tmp_path / "relayd.toml")),
            stderr=writing if broken == "closed pipe" else full,
            env=environment(),
        )
    os.close(writing)
    os.close(reading)
    ports = settings["relay"]
    try:
        with (
            Host(("127.0.0.1", ports["server_port"]), keys.host, keys.token) as host,
            Player(("127.0.0.1", ports["client_port"]), keys.players[0], keys.token) as first,
            Player(("127.0.0.1", ports["client_port"]), keys.players[1], keys.token) as second,
        ):
            eventually(lambda: _answered(host), "the relay is up")
            for player in (first, second):
                assert player.ping() == VALID
                player.say(b"\x01\x00\x00\x00\x00 hello")
                connection_id, _ = host.hear()
                host.say(connection_id, b"welcome")
                assert player.hear() == b"welcome"
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def _answered(host: Host) -> bool:
    try:
        return host.ping() == VALID
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize(
    "header",
    ["Mon, 01 Jan 2024 00:00:00 +99999999999999999", "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT", "soon"],
)
def test_an_odd_retry_after_does_not_end_the_relay(start_relay: StartRelay, header: str) -> None:
    with StandIn(nodes=True) as stand_in:
        stand_in.misbehaviour = lambda handler: handler.reply(503, {"message": "later"}, {"Retry-After": header})
        source = {"kind": "control_plane", "url": stand_in.url, "timeout": 0.5}
        relay = start_relay(None, {"source": source}, ready=False)
        eventually(lambda: stand_in.answered(503) >= 2, "the relay asks again")
        stand_in.misbehaviour = None
        eventually(lambda: relay.get("/readyz")[0] == 200, "the relay follows")


def test_what_a_control_plane_did_not_hear_of_is_reported_after_a_restart(
    start_relay: StartRelay, tmp_path: Path
) -> None:
    """A session ends for idleness while the control plane is away, and the relay restarts before that is back."""
    keys = new_session("idle")
    with StandIn(nodes=True) as stand_in:
        overrides: Sections = {
            "source": {"kind": "control_plane", "url": stand_in.url, "timeout": 0.5},
            "limits": {"session_idle_timeout": 0.5},
            "state": {"directory": str(tmp_path / "state")},
        }
        relay = start_relay(None, overrides)
        ports = relay.settings["relay"]
        stand_in.sessions = [relay_session(keys, "127.0.0.1", ports["server_port"], ports["client_port"])]
        with relay.player(keys) as player:
            stand_in.changed()
            player.ping_until(VALID)
            stand_in.close()
            eventually(lambda: relay.metrics()["relayd_source_failures_total",] >= 1, "the control plane is missed")
        with relay.player(keys) as player:
            relay.stop()
        stand_in.open()
        start_relay(None, overrides)
        eventually(lambda: any("idle" in beat["ended"] for beat in stand_in.heartbeats), "the end is reported")


def test_a_deletion_while_pages_are_read_ends_nobody_else(start_relay: StartRelay) -> None:
    """A public list shifts when a session is deleted between two pages: one that slips through is not gone."""
    sessions = [new_session(f"session-{number}") for number in range(5)]
    with StandIn() as stand_in:
        source = {"kind": "control_plane", "url": stand_in.url, "timeout": 5.0}
        relay = start_relay(None, {"source": source})
        ports = relay.settings["relay"]
        everything = [relay_session(keys, "127.0.0.1", ports["server_port"], ports["client_port"]) for keys in sessions]
        stand_in.sessions = everything
        # Pages have two sessions each: the third is the first of the second page.
        with relay.player(sessions[2]) as player:
            player.ping_until(VALID)
            bound = relay.get_json("/v1/sessions/session-2")["users"][1]["bindings"][0]
            stand_in.between_pages = lambda: setattr(stand_in, "sessions", everything[1:])
            eventually(lambda: relay.get("/v1/sessions/session-0")[0] == 404, "the deleted session ends")
            assert player.ping() == VALID
            after = relay.get_json("/v1/sessions/session-2")["users"][1]["bindings"][0]
            assert after["connection_id"] == bound["connection_id"]
            assert after["bound_seconds"] > bound["bound_seconds"]


def test_web_pages_cannot_drain_a_relay(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("playing")])
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "import httpx, sys; print(httpx.post(sys.argv[1], headers={'Origin': 'http://evil.example'},"
            " trust_env=False).status_code)",
            f"http://{relay.settings['admin']['bind']}/v1/drain",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "403"
    assert relay.metrics()["relayd_draining",] == 0
