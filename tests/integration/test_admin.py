"""The admin HTTP server and the commands that ask it."""

import json
import math
import socket

import pytest

from bench.ports import free_ports
from relayd.core.verdict import Verdict
from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, new_session, new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

Samples = dict[tuple[str, ...], float]

NAMES = (
    "relayd_sessions",
    "relayd_source_age_seconds",
    "relayd_fast_path_up",
    "relayd_draining",
    "relayd_source_failures_total",
)


def play(relay: RelayProcess, session: SessionKeys, to_host: int, to_player: int) -> int:
    """Sends so many datagrams of DATA each way, 100 bytes of payload each, and returns the connection id.

    Once they are counted, which is a moment after they arrived.
    """
    before = relay.counts()
    with relay.host(session) as host, relay.player(session) as player:
        assert host.ping() == VALID
        payload = OPENS_CONNECTION.ljust(100)
        for _ in range(to_host):
            player.say(payload)
            connection_id, heard = host.hear()
            assert heard == payload
        for _ in range(to_player):
            host.say(connection_id, payload)
            assert player.hear() == payload
    relay.counted_since(before, 1 + to_host + to_player)
    return connection_id


def test_live_sessions_over_http(start_relay: StartRelay) -> None:
    live, other = new_sessions("live", "other one")
    relay = start_relay([live, other])
    before = relay.counts()
    with relay.host(live) as host, relay.player(live) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        dropped = host.say(connection_id ^ 1, b"nobody")
        reply = host.say(connection_id, b"hello")
        assert player.hear() == b"hello"
        relay.counted_since(before, 4)

        listed = relay.get_json("/v1/sessions")
        assert listed["total_count"] == 2
        to_host = {"datagrams": 1, "bytes": 9 + len(OPENS_CONNECTION)}
        to_player = {"datagrams": 1, "bytes": len(reply)}
        nothing = {"datagrams": 0, "bytes": 0}
        assert listed["sessions"] == [
            {
                "session_id": "live",
                "users": 3,
                "host_bound": True,
                "players_bound": 1,
                "to_host": to_host,
                "to_player": to_player,
                "dropped": 1,
            },
            {
                "session_id": "other one",
                "users": 3,
                "host_bound": False,
                "players_bound": 0,
                "to_host": nothing,
                "to_player": nothing,
                "dropped": 0,
            },
        ]
        assert dropped

        shown = relay.get_json("/v1/sessions/live")
        assert shown["drops"] == {"unknown_connection": 1}
        roles = {user["role"]: user for user in shown["users"]}
        (binding,) = roles["player"]["bindings"]
        assert binding["address"] == {"ip": "127.0.0.1", "port": player.port}
        assert binding["connection_id"] == connection_id
        assert 0 <= binding["last_seen_seconds_ago"] <= binding["bound_seconds"]
        assert (roles["player"]["to_host"], roles["player"]["to_player"]) == (to_host, to_player)
        assert "connection_id" not in roles["host"]["bindings"][0]
        assert roles[None]["bindings"] == []

        assert relay.get_json("/v1/sessions/other%20one")["drops"] == {}
        assert [row["session_id"] for row in relay.get_json("/v1/sessions?limit=1&offset=1")["sessions"]] == [
            "other one"
        ]
        status, body = relay.get("/v1/sessions/none")
        assert (status, json.loads(body)) == (404, {"message": "no session none in the table"})
    assert relay.get("/healthz") == (200, "ok\n")
    assert relay.get("/v1/nowhere")[0] == 404
    assert relay.request("POST", "/metrics")[0] == 405


def test_commands_that_ask_a_running_relay(start_relay: StartRelay) -> None:
    live, other = new_sessions("live", "other")
    relay = start_relay([live, other])
    connection_id = play(relay, live, 3, 2)
    config = ("--config", str(relay.config_path))

    listed = relayd("sessions", "--json", *config)
    assert listed.returncode == 0
    assert json.loads(listed.stdout)["sessions"] == relay.get_json("/v1/sessions")["sessions"]
    table = relayd("sessions", *config).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["session", "live", "other"]
    assert table[1].split() == ["live", "yes", "1", "3", "3", "2", "0"]

    shown = relayd("session", "live", "--json", *config)
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["to_host"] == {"datagrams": 3, "bytes": 327}
    people = relayd("session", "live", *config).stdout
    assert "session live" in people
    assert str(connection_id) in people

    assert_one_clear_line(relayd("session", "none", "--json", *config), 1, "no session none in the table")
    for done in (listed, shown):
        assert done.stderr == ""
        for token in (live.token, *live.users):
            assert str(token) not in done.stdout
            assert f"{token:x}" not in done.stdout


@pytest.mark.parametrize("arguments", [("sessions",), ("session", "any", "--json")])
def test_commands_while_no_relay_runs(tmp_path_factory: pytest.TempPathFactory, arguments: tuple[str, ...]) -> None:
    config = write_config(tmp_path_factory.mktemp("none"))
    assert_one_clear_line(relayd(*arguments, "--config", str(config)), 69, "no relay answers on 127.0.0.1:")


def test_metrics_are_all_there_from_the_start(start_relay: StartRelay) -> None:
    relay = start_relay(new_sessions("one", "two"))
    metrics = relay.metrics()
    for name in NAMES:
        assert (name,) in metrics
    assert all(name.startswith("relayd_") for name, *_ in metrics)
    assert all(math.isfinite(value) and value >= 0 for value in metrics.values())
    assert metrics["relayd_users", "authorized"] == 6
    assert metrics["relayd_users", "host"] == metrics["relayd_users", "player"] == 0
    assert metrics["relayd_fast_path_up",] == 0
    assert [key for key in metrics if key[0] == "relayd_build_info"]
    zeros = [value for (name, *_), value in metrics.items() if name in ("relayd_datagrams_total", "relayd_bytes_total")]
    assert len(zeros) == 2 * 2 * len(Verdict)
    assert set(zeros) == {0}


def assert_series_add_up(relay: RelayProcess, ended: Samples | None = None) -> Samples:
    """Per direction, the sessions' series make up what was forwarded from the port it comes from.

    The series of a session that ended are gone, with what they had counted: were it added to the others', those would
    show traffic when there was none. ``ended`` says what those series showed last.
    """
    metrics = relay.metrics()
    for unit in ("datagrams", "bytes"):
        for direction, port in (("to_host", "client"), ("to_player", "server")):
            series = [
                value
                for (name, *labels), value in (*metrics.items(), *(ended or {}).items())
                if name == f"relayd_session_{unit}_total" and labels[0] == direction
            ]
            assert sum(series) == metrics[f"relayd_{unit}_total", port, "forwarded"]
            assert all(value >= 0 for value in series)
    return metrics


def named_series(metrics: Samples) -> set[str]:
    return {labels[1] for name, *labels in metrics if name == "relayd_session_datagrams_total"}


def test_series_of_sessions_are_bounded_and_never_go_back(start_relay: StartRelay) -> None:
    sessions = new_sessions("first", "second", "third", "fourth", "quiet")
    relay = start_relay(sessions, {"admin": {"max_session_series": 2}})
    for number, session in enumerate(sessions[:4], 1):
        play(relay, session, number, 2 * number)
    metrics = assert_series_add_up(relay)
    assert named_series(metrics) == {"first", "second", "other"}
    assert metrics["relayd_session_datagrams_total", "to_host", "first"] == 1
    assert metrics["relayd_session_datagrams_total", "to_player", "second"] == 4
    assert metrics["relayd_session_bytes_total", "to_player", "second"] == 4 * (13 + 100)
    assert metrics["relayd_session_datagrams_total", "to_host", "other"] == 3 + 4

    # One with a series of its own ends, and one without.
    relay.write_sessions([sessions[1], sessions[3], sessions[4]])
    eventually(lambda: relay.metrics()["relayd_sessions",] == 3, "two sessions are gone")
    ended = {key: value for key, value in metrics.items() if key[-1] == "first"}
    after = assert_series_add_up(relay, ended)
    assert named_series(after) == {"second", "other"}
    for key, value in metrics.items():
        if key[0].endswith("_total") and key in after:
            assert after[key] >= value

    # A place is free again.
    play(relay, sessions[4], 1, 1)
    assert named_series(assert_series_add_up(relay, ended)) == {"second", "quiet", "other"}


def test_the_admin_server_on_ipv6(start_relay: StartRelay) -> None:
    (port,) = free_ports(1, socket.SOCK_STREAM)
    relay = start_relay([new_session("six")], {"admin": {"bind": f"[::1]:{port}"}})
    done = relayd("sessions", "--json", "--config", str(relay.config_path))
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["sessions"] == relay.get_json("/v1/sessions")["sessions"]
