"""What `relayd check` and `relayd run` say of a configuration or host that cannot work, and their exit status."""

import json
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import CAP_NET_ADMIN, assert_one_clear_line, relayd, write_config
from tests.integration.config import Sections, new_session, write_sessions
from tests.integration.conftest import StartRelay
from tests.integration.relay_process import RelayProcess

USAGE, UNAVAILABLE, BAD_CONFIGURATION = 64, 69, 78


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sessions(tmp_path / "sessions.json", [new_session("checked")])
    return tmp_path


def test_nothing_is_wrong(folder: Path) -> None:
    done = relayd("check", "--config", str(write_config(folder)))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 6
    assert "1 sessions, 3 users" in done.stdout


@pytest.mark.parametrize(
    ("program", "port"), [("check", "server_port"), ("check", "client_port"), ("run", "client_port"), ("run", "admin")]
)
def test_a_taken_port(folder: Path, program: str, port: str) -> None:
    config = write_config(folder)
    settings = tomllib.loads(config.read_text(encoding="utf-8"))
    kind = socket.SOCK_STREAM if port == "admin" else socket.SOCK_DGRAM
    number = int(settings["admin"]["bind"].split(":")[1]) if port == "admin" else settings["relay"][port]
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", number))
        if port == "admin":
            taken.listen()
        done = relayd(program, "--config", str(config))
    protocol = "TCP" if port == "admin" else "UDP"
    assert_one_clear_line(done, UNAVAILABLE, f"{protocol} port {number} on 127.0.0.1", "is taken")


def test_an_address_of_another_host(folder: Path) -> None:
    config = write_config(folder, {"relay": {"bind": ["203.0.113.1"]}})
    assert_one_clear_line(
        relayd("check", "--config", str(config)), UNAVAILABLE, "203.0.113.1", "this host has no such address"
    )


WRONG_SETTINGS: dict[str, tuple[Sections, tuple[str, ...]]] = {
    "unknown key": ({"relay": {"server_prot": 1}}, ("relay.server_prot: unknown key", "did you mean server_port?")),
    "unknown section": ({"realy": {"id": "x"}}, ("realy: unknown key", "did you mean relay?")),
    "port out of range": ({"relay": {"client_port": 65536}}, ("relay.client_port", "65535", "got 65536")),
    "equal ports": ({"relay": {"server_port": 5, "client_port": 5}}, ("server_port and client_port must differ",)),
    "unknown policy": ({"limits": {"connection_id_policy": "none"}}, ("limits.connection_id_policy", "per_address")),
    "source of another command": ({"source": {"kind": "embedded"}}, ("source.kind", "embedded")),
}


@pytest.mark.parametrize(
    ("program", "mistake"), [*(("check", mistake) for mistake in WRONG_SETTINGS), ("run", "unknown key")]
)
def test_wrong_settings(folder: Path, program: str, mistake: str) -> None:
    overrides, says = WRONG_SETTINGS[mistake]
    done = relayd(program, "--config", str(write_config(folder, overrides)))
    assert_one_clear_line(done, BAD_CONFIGURATION, *says)


@pytest.mark.parametrize("program", ["check", "run"])
def test_a_file_that_is_no_toml(folder: Path, program: str) -> None:
    config = folder / "relayd.toml"
    config.write_text("[relay]\nserver_port = \n", encoding="utf-8")
    done = relayd(program, "--config", str(config))
    assert_one_clear_line(done, BAD_CONFIGURATION, str(config), "is not valid TOML", "line 2")


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = relayd("run", "--config", str(tmp_path / "none.toml"))
    assert_one_clear_line(done, BAD_CONFIGURATION, "none.toml", "No such file")


def test_the_environment_overrides_and_is_checked(folder: Path) -> None:
    config = str(write_config(folder))
    done = relayd("check", "--config", config, variables={"RELAYD_RELAY__SERVER_PORT": "0"})
    assert_one_clear_line(done, BAD_CONFIGURATION, "RELAYD_RELAY__SERVER_PORT", "relay.server_port", "'0'")
    done = relayd("check", "--config", config, variables={"RELAYD_RELAY__SERVER_PROT": "1"})
    assert_one_clear_line(done, BAD_CONFIGURATION, "RELAYD_RELAY__SERVER_PROT", "unknown key")


def test_a_session_file_that_is_not_there(tmp_path: Path) -> None:
    done = relayd("check", "--config", str(write_config(tmp_path)))
    assert_one_clear_line(done, BAD_CONFIGURATION, "source.path", "sessions.json", "No such file")


def test_a_broken_session_file(folder: Path) -> None:
    path = folder / "sessions.json"
    broken: dict[str, Any] = {"sessions": [{**new_session("bad").as_json(), "authorization_token": -1}]}
    text = json.dumps(broken, indent=1)
    path.write_text(text, encoding="utf-8")
    line = 1 + text[: text.index("-1,")].count("\n")
    done = relayd("check", "--config", str(write_config(folder)))
    assert_one_clear_line(done, BAD_CONFIGURATION, f"{path}:{line}: sessions[0].authorization_token: ")


def test_a_bad_configuration_is_worse_than_a_taken_port(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    port = tomllib.loads(config.read_text(encoding="utf-8"))["relay"]["server_port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        done = relayd("check", "--config", str(config))
    assert done.returncode == BAD_CONFIGURATION
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("arguments", [("rnu",), ("dev", "--players", "-1"), ("dev", "--public-ip", "here")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = relayd(*arguments)
    assert done.returncode == USAGE
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_buffers_that_the_kernel_does_not_give(folder: Path) -> None:
    wanted = 1 << 30
    for key, sysctl in (("receive_buffer_bytes", "net.core.rmem_max"), ("send_buffer_bytes", "net.core.wmem_max")):
        config = write_config(folder, {"relay": {key: wanted}})
        done = relayd("check", "--config", str(config), without=CAP_NET_ADMIN)
        assert done.returncode == 0, done
        (warning,) = [line for line in done.stdout.splitlines() if line.startswith("warning")]
        assert f"`sysctl -w {sysctl}={wanted}`" in warning


def test_pinned_addresses_that_are_missing(folder: Path) -> None:
    done = relayd("check", "--config", str(write_config(folder, {"limits": {"pin_ip": True}})))
    assert done.returncode == 0
    assert "limits.pin_ip is on, and 3 users have no ip_address" in done.stdout


def test_check_beside_a_running_relay_knows_whose_ports_they_are(start_relay: StartRelay) -> None:
    """The usual case: somebody has changed the session file, and wants to know whether it is right."""
    relay: RelayProcess = start_relay([new_session("running")])
    done = relayd("check", "--config", str(relay.config_path))
    assert done.returncode == 0, done
    assert done.stdout.count("held by the relay that runs here") == 2
