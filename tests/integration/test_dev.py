"""`relayd dev`: the simulated game ends as it should, and without one there are tokens to play with."""

import re
import signal
import socket
import tomllib
from pathlib import Path

import pytest

from bench.ports import free_port
from relayd.errors import EXIT_UNAVAILABLE
from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.peers import OPENS_CONNECTION, VALID, Host, Player
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import PATIENCE_SECONDS, eventually


def test_a_simulated_game_is_flawless(tmp_path: Path) -> None:
    bind = ["0.0.0.0", "::"]
    done = relayd(
        "dev", "--players", "4", "--for", "2", "--config", str(write_config(tmp_path, {"relay": {"bind": bind}}))
    )
    assert done.returncode == 0, done
    assert done.stderr == ""
    assert "every player was let in and nothing was lost" in done.stdout
    assert "4 of 4 players valid" in done.stdout
    rows = re.findall(r"^ *(\d) +Valid +(\d+) +(\d+) +(\d+) +([\d.]+) ms +([\d.]+) ms *$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    for _, sent, received, lost, p50, p99 in rows:
        # 30 a second each way at most, less what it took to get in and what a busy machine left out.
        assert 1 <= int(sent) <= 62
        assert 1 <= int(received) <= 62
        assert int(lost) == 0
        assert 0 < float(p50) <= float(p99)


def test_tokens_to_play_with(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, None, arguments=("dev",)) as relay:
        said = eventually(lambda: relay.stdout if "players" in relay.stdout else "", "it introduces itself")
        (session,) = map(int, re.findall(r"^session .* (\d+)$", said, re.MULTILINE))
        (host_token,) = map(int, re.findall(r"^host .* (\d+)$", said, re.MULTILINE))
        ((listed,),) = [re.findall(r"tokens (.*)$", line) for line in said.splitlines() if line.startswith("players")]
        tokens = [int(token) for token in listed.split(", ")]
        settings = tomllib.loads(relay.config_path.read_text(encoding="utf-8"))
        assert f"server port {settings['relay']['server_port']}" in said
        assert f"http://{settings['admin']['bind']}/metrics" in said
        with Host(relay.address("server"), host_token, session) as host:
            assert host.ping() == VALID
            for token in tokens:
                with Player(relay.address("client"), token, session) as player:
                    player.say(OPENS_CONNECTION)
                    connection_id, _ = host.hear()
                    host.say(connection_id, b"welcome")
                    assert player.hear() == b"welcome"
                    assert player.ping() == VALID
            refused = relayd("upgrade", "--config", str(relay.config_path))
            assert "cannot be replaced" in refused.stderr
            assert host.ping() == VALID
        relay.process.send_signal(signal.SIGTERM)
        assert relay.process.wait(PATIENCE_SECONDS) == 0
    assert not list(REPOSITORY.glob("*.sqlite3")), "it is to keep nothing"


def test_a_port_of_the_api_that_is_taken_names_the_way_out(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    port = free_port(socket.SOCK_STREAM)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = relayd("dev", "--for", "1", "--api-port", str(port), "--config", str(config))
    assert_one_clear_line(done, EXIT_UNAVAILABLE, f"TCP port {port} on 127.0.0.1 (api.bind) is taken", "--api-port")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_game_that_is_interrupted_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with RelayProcess(tmp_path, None, arguments=("dev", "--players", "2")) as relay:
        eventually(lambda: relay.metrics()["relayd_datagrams_total", "server", "forwarded"] > 20, "the game is on")
        relay.process.send_signal(number)
        assert relay.process.wait(PATIENCE_SECONDS) == 0
    assert "nothing was lost" in relay.stdout
