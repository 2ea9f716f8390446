"""What `relayd check` finds right, doubtful and wrong, and its exit status."""

import email.utils
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from relayd.errors import UnavailableError
from tests.support.away import Away
from tests.support.command_line import CommandLine, Done
from tests.support.local_http import listener
from tests.support.sockets import fake_ports


class Host:
    """A host on which ports are free, nothing listens, and a control plane answers as it is told.

    The ports that a relay needs are the test's, not the host's.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.answer = httpx.Response(200, json={}, headers={"date": email.utils.formatdate(time.time())})
        self.asked: list[tuple[str, Any]] = []
        self.warnings: list[str] = []
        self.sections: dict[str, dict[str, Any]] = {
            "source": {"kind": "file", "path": str(folder / "sessions.json")},
            "state": {"directory": str(folder / "state")},
            "fast_path": {"mode": "off"},
        }
        self.write({"session_id": "game", "authorization_token": 1, "session_users": [{"authorization_token": 2}]})
        monkeypatch.setattr("relayd.commands.check.open_sockets", lambda _: (fake_ports(), self.warnings))
        monkeypatch.setattr("relayd.commands.check.listen", lambda *_: self._listen())
        monkeypatch.setattr(httpx, "request", self._no_relay)
        monkeypatch.setattr(httpx, "get", self._control_plane)

    def write(self, *sessions: dict[str, Any]) -> None:
        (self.folder / "sessions.json").write_text(json.dumps({"sessions": sessions}))

    def controlled(self, **source: Any) -> None:
        self.sections["source"] = {"kind": "control_plane", "url": "http://control-plane", **source}
        self.sections["relay"] = {"public_ip": "203.0.113.7"}

    def check(self) -> Done:
        return CommandLine(self.folder, self.capsys, self.sections)("check")

    def _listen(self) -> Any:
        (self.folder / "http").unlink(missing_ok=True)
        return listener(self.folder)

    def _no_relay(self, *_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    def _control_plane(self, url: str, **options: Any) -> httpx.Response:
        self.asked.append((url, options["headers"]))
        if self.answer.status_code == 599:
            raise httpx.ConnectError("connection refused")
        return self.answer


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Host]:
    yield Host(tmp_path, monkeypatch, capsys)


def test_a_host_on_which_all_is_well(host: Host) -> None:
    done = host.check()
    assert done.status == 0
    assert done.err == ""
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert f"{host.folder}/sessions.json: 1 sessions, 1 users" in done.out
    assert "UDP ports 32000 and 32001" in done.out


def test_ports_that_are_mapped_are_said(host: Host) -> None:
    assert "sessions name" not in host.check().out
    host.sections["relay"] = {"public_server_port": 40000}
    assert "ok       sessions name UDP ports 40000 and 32001" in host.check().out


def test_what_the_sockets_lack_is_a_warning(host: Host) -> None:
    host.warnings = ["receive buffer is small"]
    done = host.check()
    assert (done.status, "warning  receive buffer is small" in done.out) == (0, True)


def test_nobody_who_may_play_is_a_warning(host: Host) -> None:
    host.write()
    assert "warning  " in host.check().out


def test_users_without_an_address_cannot_play_where_addresses_are_pinned(host: Host) -> None:
    host.sections["limits"] = {"pin_ip": True}
    done = host.check()
    assert "warning  limits.pin_ip is on, and 1 users have no ip_address" in done.out


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), (b"\xff\xff", "not UTF-8"), (b"{", ":1: not valid JSON")],
)
def test_a_session_file_that_cannot_be_used_is_wrong(host: Host, content: bytes | None, says: str) -> None:
    path = host.folder / "sessions.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    done = host.check()
    assert done.status == 78
    assert "wrong    " in done.err
    assert says in done.err
    assert "UDP ports" in done.out, "the rest is looked at all the same"


def test_a_session_file_that_hangs_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    Away(monkeypatch)
    monkeypatch.setattr("relayd.commands.check.LIMIT_SECONDS", 0.01)
    done = host.check()
    assert done.status == 69
    assert "sessions.json: no answer within 10 s: is the file system it is on away?" in done.err


def test_a_taken_port_is_wrong_and_a_bad_configuration_is_worse(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise UnavailableError("UDP port 32000 is taken")

    monkeypatch.setattr("relayd.commands.check.open_sockets", taken)
    done = host.check()
    assert (done.status, done.err) == (69, "wrong    UDP port 32000 is taken\n")
    (host.folder / "sessions.json").unlink()
    assert host.check().status == 78


def test_ports_that_the_relay_itself_holds_are_fine(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"server_port": 32000, "client_port": 32001}
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json=ports))
    out = host.check().out
    assert out.count("held by the relay that runs here") == 2


def test_ports_that_another_relay_holds_are_not(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"server_port": 1, "client_port": 2}
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json=ports))
    assert "held by the relay" not in host.check().out


def test_a_source_that_only_another_command_has(host: Host) -> None:
    host.sections["source"] = {"kind": "embedded"}
    done = host.check()
    assert (done.status, "relayd dev" in done.err) == (78, True)


# A control plane --------------------------------------------------------------------------------------------


def test_one_that_answers(host: Host) -> None:
    (host.folder / "key").write_text("secret\n")
    host.controlled(token_file=str(host.folder / "key"))
    done = host.check()
    assert done.status == 0
    assert "ok       control plane http://control-plane answers" in done.out
    assert f"ok       {host.folder}/state will keep the last good sessions: the first start makes it" in done.out
    assert not (host.folder / "state").exists(), "it is the relay's to make"
    ((url, headers),) = host.asked
    assert url.startswith("http://control-plane/v1/relays/nodes/")
    assert headers == {"authorization": "token secret"}


def test_one_that_does_not_answer(host: Host) -> None:
    host.controlled()
    host.answer = httpx.Response(599)
    done = host.check()
    assert done.status == 69
    assert "source.url: http://control-plane does not answer: connection refused" in done.err


@pytest.mark.parametrize(("key", "says"), [(None, "wants a key"), ("secret", "refuses the key")])
def test_one_that_refuses_the_key(host: Host, key: str | None, says: str) -> None:
    host.controlled()
    if key is not None:
        (host.folder / "key").write_text(key)
        host.controlled(token_file=str(host.folder / "key"))
    host.answer = httpx.Response(401)
    done = host.check()
    assert (done.status, says in done.err, "secret" in done.err) == (78, True, False)


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="<html>")])
def test_something_else_that_answers(host: Host, answer: httpx.Response) -> None:
    host.controlled()
    host.answer = answer
    done = host.check()
    assert (done.status, "is no control plane" in done.err) == (69, True)


@pytest.mark.parametrize(("apart", "said"), [(3600, True), (1, False)])
def test_clocks_that_are_apart(host: Host, apart: int, said: bool) -> None:
    host.controlled()
    host.answer.headers["date"] = email.utils.formatdate(time.time() - apart)
    assert ("the clocks of this host and the control plane are" in host.check().out) is said


def test_no_clock_is_no_finding(host: Host) -> None:
    host.controlled()
    host.answer.headers["date"] = "yesterday"
    assert "clocks" not in host.check().out


def test_players_who_are_told_an_address_that_only_this_host_reaches(host: Host) -> None:
    host.controlled()
    host.sections["relay"] = {"public_ip": "127.0.0.1"}
    assert "warning  relay.public_ip: players are told 127.0.0.1" in host.check().out


def test_a_state_directory_that_cannot_be_written_to(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    host.controlled()
    (host.folder / "state").mkdir()
    assert "ok       " + str(host.folder / "state") + " keeps the last good sessions" in host.check().out
    monkeypatch.setattr("relayd.commands.check.tempfile.TemporaryFile", refused)
    done = host.check()
    assert (done.status, "state.directory" in done.err, "Read-only" in done.err) == (78, True, True)


@pytest.mark.parametrize("way", ["a file", "no right"])
def test_a_state_directory_that_cannot_be_made(host: Host, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    host.controlled()
    host.sections["state"] = {"directory": str(host.folder / "above" / "state")}
    if way == "a file":
        (host.folder / "above").write_text("")
    else:
        allowed = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and allowed(path, mode))
    done = host.check()
    assert done.status == 78
    assert "state.directory: " in done.err
    assert "above/state: cannot be made: " in done.err
