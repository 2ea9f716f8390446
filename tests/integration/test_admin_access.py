"""Who may ask a running relay: root and its own user on its socket; everybody else scrapes, with or without a token."""

import contextlib
import http.client
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.http.socket_path import path_of_this_user
from relayd.settings import Settings
from tests.integration.commands import assert_one_clear_line, relayd
from tests.integration.config import configuration, new_session, new_sessions, to_toml, write_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import VALID
from tests.integration.programs import command, run, start
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.unix_http import connected
from tests.integration.waiting import PATIENCE_SECONDS, eventually

TOKEN = "a-token-for-tests"
_NOBODY = 65534
_ASKED = (
    ("GET", "/v1/sessions"),
    ("GET", "/v1/sessions/playing"),
    ("GET", "/v1/status"),
    ("GET", "/v1/explain?target=1"),
    ("POST", "/v1/drain"),
    ("DELETE", "/v1/drain"),
    ("POST", "/v1/upgrade"),
    ("POST", "/v1/sessions/playing/watch"),
)
# Given away all rights: what follows is what any account on this host can do. Prints a status, or why there was none.
_AS_NOBODY = f"""
import http.client, json, os, socket, sys
"".encode("idna")  # read while it may be
os.setgroups([]); os.setresgid(*[{_NOBODY}] * 3); os.setresuid(*[{_NOBODY}] * 3)
ip, port, path, asked = json.loads(sys.argv[1])
found = {{}}
for method, target in asked:
    connection = http.client.HTTPConnection(ip, port, timeout={PATIENCE_SECONDS})
    connection.request(method, target)
    answer = connection.getresponse()
    found[f"{{method}} {{target}}"] = [answer.status, answer.read().decode()]
    connection.close()
with socket.socket(socket.AF_UNIX) as one:
    try:
        one.connect(path)
        found["socket"] = "connected"
    except OSError as error:
        found["socket"] = type(error).__name__
print(json.dumps(found))
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def tcp(relay: RelayProcess) -> tuple[str, int]:
    ip_address, _, port = relay.settings["admin"]["bind"].rpartition(":")
    return ip_address, int(port)


def over_tcp(relay: RelayProcess, method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*tcp(relay), timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@contextlib.contextmanager
def open_to_all(*folders: Path) -> Iterator[None]:
    """Folders that anybody may look into: so that only the socket's own mode is in the way."""
    modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in folders}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o055)
    try:
        yield
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


@needs_root
def test_an_account_without_rights_learns_nothing_and_changes_nothing(start_relay: StartRelay) -> None:
    session = new_session("playing")
    relay = start_relay([session])
    instance = relay.get_json("/v1/status")["instance"]
    # Up to /tmp, where pytest makes folders that only their owner may look into.
    folders = [relay.socket_path.parent, *relay.socket_path.parent.parents][:-2]
    with relay.host(session) as host, relay.player(session) as player, open_to_all(*folders):
        assert (host.ping(), player.ping()) == (VALID, VALID)
        asked = [*tcp(relay), str(relay.socket_path), [*_ASKED, ("GET", "/metrics"), ("GET", "/readyz")]]
        done = run([sys.executable, "-c", _AS_NOBODY, json.dumps(asked)], os.environ)
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert found.pop("socket") == "PermissionError"
        for open_one in ("GET /metrics", "GET /readyz"):
            status, body = found.pop(open_one)
            assert status == 200
            assert str(session.players[0]) not in body
        assert len(found) == len(_ASKED)
        for what, (status, body) in found.items():
            assert status == 403, what
            assert str(relay.socket_path) in json.loads(body)["message"]
            assert "playing" not in body
    assert relay.get_json("/v1/drain")["draining"] is False
    assert relay.get_json("/v1/status")["instance"] == instance
    assert stat.S_IMODE(relay.socket_path.stat().st_mode) == 0o600


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/v1/sessions"])
def test_a_page_whose_name_leads_here_is_not_answered(start_relay: StartRelay, tmp_path: Path, path: str) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    relay = start_relay([new_session("playing")], {"admin": {"token_file": str(tmp_path / "token")}})
    bearer = f"Bearer {TOKEN}"
    for host in ("evil.example", f"evil.example:{tcp(relay)[1]}", "localhost.evil.example"):
        status, body = over_tcp(relay, "GET", path, Host=host, Authorization=bearer)
        assert status == 421
        assert "admin.hosts" in json.loads(body)["message"]
        assert "playing" not in body
    for host in ("localhost", "127.0.0.1", "relay-1:9464"):
        assert over_tcp(relay, "GET", path, Host=host, Authorization=bearer)[0] == 200


def test_with_the_token_a_relay_is_asked_over_tcp(start_relay: StartRelay, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    relay = start_relay(new_sessions("one", "two"), {"admin": {"token_file": str(token_file)}})
    assert over_tcp(relay, "GET", "/v1/sessions")[0] == 401
    assert over_tcp(relay, "GET", "/v1/sessions", Authorization="Bearer another")[0] == 401
    for scheme in ("Bearer", "token"):
        status, body = over_tcp(relay, "GET", "/v1/sessions", Authorization=f"{scheme} {TOKEN}")
        assert (status, json.loads(body)["total_count"]) == (200, 2)

    # As from another host: the commands have no socket there, and take the token.
    elsewhere = tmp_path / "elsewhere.toml"
    admin = {"bind": relay.settings["admin"]["bind"], "socket": str(tmp_path / "none"), "token_file": str(token_file)}
    elsewhere.write_text(to_toml({"admin": admin}))
    done = relayd("sessions", "--config", str(elsewhere))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["session", "one", "two"]
    token_file.write_text("another\n")
    assert_one_clear_line(relayd("sessions", "--config", str(elsewhere)), 1, "Authorization: Bearer TOKEN")
    elsewhere.write_text(to_toml({"admin": {**admin, "token_file": str(tmp_path / "nowhere")}}))
    assert_one_clear_line(relayd("drain", "--config", str(elsewhere)), 78, "admin.token_file")
    del admin["token_file"]
    elsewhere.write_text(to_toml({"admin": admin}))
    assert_one_clear_line(relayd("drain", "--config", str(elsewhere)), 1, "admin.token_file")
    for secret in (TOKEN, "another"):
        assert secret not in relay.stderr
    assert relay.get_json("/v1/drain")["draining"] is False


def test_a_token_that_cannot_be_read_ends_it_before_it_starts(tmp_path: Path) -> None:
    config = tmp_path / "relayd.toml"
    config.write_text(to_toml({"admin": {"token_file": str(tmp_path / "none")}, "state": {"directory": "state"}}))
    for asking in ("run", "check"):
        done = relayd(asking, "--config", str(config))
        assert done.returncode == 78
        assert f"admin.token_file: {tmp_path}/none: cannot be read" in done.stderr


def test_idle_and_slow_clients_of_the_socket_disturb_nobody(start_relay: StartRelay) -> None:
    session = new_session("playing")
    many = [new_session(f"other-{number:0120}") for number in range(1000)]
    relay = start_relay([session, *many], {"admin": {"max_connections": 8}})
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(connected(relay.socket_path))
        # The answer is longer than what the sockets hold, and is not read on.
        slow.sendall(b"GET /v1/sessions HTTP/1.1\r\nHost: relay\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.1 200"
        half = stack.enter_context(connected(relay.socket_path))
        half.sendall(b"GET /v1/sess")
        for _ in range(4):
            stack.enter_context(connected(relay.socket_path))
        with relay.host(session) as host, relay.player(session) as player:
            for _ in range(3):
                assert (host.ping(), player.ping()) == (VALID, VALID)
        assert relay.get_json("/v1/sessions/playing")["session_id"] == "playing"
        # Even those that leave no place for another are in nobody's way but on the socket.
        for _ in range(20):
            stack.enter_context(connected(relay.socket_path))
        assert relay.metrics()["relayd_sessions",] == 1001
        assert relay.get("/readyz")[0] == 200


def test_a_relay_that_was_killed_leaves_a_socket_that_the_next_replaces(tmp_path: Path) -> None:
    sessions = [new_session("one")]
    first = RelayProcess(tmp_path, sessions)
    first.__enter__()
    first.kill()
    assert first.socket_path.is_socket()
    with pytest.raises(ConnectionRefusedError):
        connected(first.socket_path)
    with RelayProcess(tmp_path, sessions) as second:
        assert second.get_json("/v1/sessions")["total_count"] == 1
    assert not second.socket_path.exists()


def test_a_second_relay_does_not_take_the_socket_of_the_first(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay([new_session("one")])
    config = tmp_path / "second.toml"
    config.write_text(to_toml(configuration({"admin": {"socket": str(relay.socket_path)}})))
    done = relayd("run", "--config", str(config))
    assert done.returncode == 69
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("relayd: ")]
    assert f"Unix socket {relay.socket_path} (admin.socket) is held by a process that runs" in line
    assert [row["session_id"] for row in relay.get_json("/v1/sessions")["sessions"]] == ["one"]


def test_no_command_reaches_another_relay_at_the_same_place(start_relay: StartRelay, tmp_path: Path) -> None:
    """Neither names a socket, both have their state in one folder, and the second does not run."""
    relay = start_relay([new_session("one")])
    second = tmp_path / "second.toml"
    second.write_text(to_toml(configuration({"state": {"directory": str(relay.socket_path.parent)}})))
    instance = relay.get_json("/v1/status")["instance"]
    for asking in (["drain"], ["upgrade"], ["sessions"], ["top", "--once"]):
        done = relayd(*asking, "--config", str(second))
        assert_one_clear_line(done, 69, f"{relay.socket_path}: another relay, with UDP ports")
    assert relay.get_json("/v1/drain")["draining"] is False
    assert relay.get_json("/v1/status")["instance"] == instance
    named = relayd("drain", "--config", str(second), variables={"RELAYD_ADMIN__SOCKET": str(relay.socket_path)})
    assert (named.returncode, named.stderr) == (0, "")
    assert relay.get_json("/v1/drain")["draining"] is True


def test_two_relays_that_name_no_socket_run_beside_each_other(start_relay: StartRelay, tmp_path: Path) -> None:
    """Both have their state in one folder. Each is reached with its own configuration, after an upgrade too."""
    first = start_relay([new_session("first")])
    folder = tmp_path / "second"
    folder.mkdir()
    config = folder / "relayd.toml"
    sections = configuration({"state": {"directory": str(first.socket_path.parent)}})
    config.write_text(to_toml(sections))
    write_sessions(folder / "sessions.json", [new_session("second")])
    elsewhere = path_of_this_user(Settings.model_validate({"relay": sections["relay"]}))
    checked = relayd("check", "--config", str(config))
    assert f"warning  admin.socket: another relay listens on {first.socket_path}" in checked.stdout
    assert str(elsewhere) in checked.stdout

    def listed(path: Path) -> list[str]:
        done = relayd("sessions", "--json", "--config", str(path))
        return [one["session_id"] for one in json.loads(done.stdout)["sessions"]] if done.returncode == 0 else []

    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        second = start(command("run", "--config", str(config)), out, err, environment())
    try:
        eventually(lambda: listed(config) == ["second"], "the second relay answers its own configuration")
        done = relayd("upgrade", "--config", str(config))
        assert (done.returncode, done.stderr) == (0, "")
        assert listed(first.config_path) == ["first"]
        assert listed(config) == ["second"]
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE_SECONDS) == 0
    finally:
        second.kill()
        second.wait()
    assert not elsewhere.exists()
    assert listed(first.config_path) == ["first"]
    assert "no admin socket where it should be" in (folder / "err").read_text()


def test_a_path_that_no_socket_can_have_is_said(tmp_path: Path) -> None:
    config = tmp_path / "relayd.toml"
    config.write_text(to_toml({"admin": {"socket": f"/tmp/{'a' * 120}.sock"}}))
    for asking in ("run", "check"):
        done = relayd(asking, "--config", str(config))
        assert done.returncode == 78
        assert "has 130 bytes, and the path of a Unix socket 107 at most" in done.stderr


def test_an_upgrade_hands_the_socket_on_without_a_gap(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("one")])
    inode = relay.socket_path.stat().st_ino
    over = threading.Event()
    instances: list[str] = []
    failed: list[Exception] = []

    def ask() -> None:
        while not over.is_set():
            try:
                instances.append(relay.get_json("/v1/status")["instance"])
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        eventually(lambda: instances, "it is asked")
        before = instances[0]
        for _ in range(2):
            done = relayd("upgrade", "--config", str(relay.config_path))
            assert (done.returncode, done.stderr) == (0, "")
        eventually(lambda: instances[-1] != before, "the successor is asked")
    finally:
        over.set()
        asking.join()
    assert not failed, failed
    assert len(set(instances)) == 3
    assert relay.socket_path.stat().st_ino == inode
