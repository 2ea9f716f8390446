"""Answers of the admin API, as they are written and read again."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from relayd.admin.answers import Address, BoundAt, Count, Program, RelayStatus
from relayd.client.admin import AdminClient
from relayd.errors import FatalError, RefusedError, UnavailableError
from relayd.http.socket_path import paths_to_ask
from relayd.settings import Settings


def asking(monkeypatch: pytest.MonkeyPatch, status: int, content: str) -> AdminClient:
    """A client of something that always answers this, over TCP: there is no socket."""
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(status, text=content))
    return AdminClient(Settings.model_validate({"admin": {"socket": "/nowhere/admin.sock"}}))


BOUND: dict[str, Any] = {
    "port": "client",
    "address": Address(ip="192.0.2.1", port=1000),
    "bound_seconds": 1.5,
    "last_seen_seconds_ago": 0.0,
}


def test_what_is_not_known_of_a_binding_is_not_in_its_json() -> None:
    assert json.loads(BoundAt(**BOUND).to_json()) == BOUND | {"address": {"ip": "192.0.2.1", "port": 1000}}
    assert json.loads(BoundAt(**BOUND, connection_id=None).to_json())["connection_id"] is None


@pytest.mark.parametrize("one", [BoundAt(**BOUND), BoundAt(**BOUND, connection_id=7), Count(datagrams=1, bytes=2)])
def test_what_is_written_is_read_again(one: BoundAt | Count) -> None:
    again = type(one).model_validate_json(one.to_json())
    assert again == one
    assert again.fields() == json.loads(one.to_json()) == one.fields()


def test_a_relay_that_says_more_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    client = asking(monkeypatch, 200, '{"version": "9.9.9", "instance": "a", "of_tomorrow": 1}')
    assert client.upgrade() == Program(version="9.9.9", instance="a")


@pytest.mark.parametrize("content", ["<html>", "[]", "{}", '{"version": 1}', "null", '"text"'])
@pytest.mark.parametrize("status", [200, 404])
def test_what_is_no_relay_is_told(monkeypatch: pytest.MonkeyPatch, status: int, content: str) -> None:
    client = asking(monkeypatch, status, content)
    with pytest.raises(FatalError) as caught:
        client.status()
    if status == 200 or not content.startswith("{"):
        assert isinstance(caught.value, UnavailableError)
        assert str(caught.value) == "what answers on 127.0.0.1:9464 is no relay; is admin.bind right?"
    else:
        assert str(caught.value) == content


def test_why_there_is_no_answer_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    client = asking(monkeypatch, 404, '{"message": "no session a in the table"}')
    with pytest.raises(FatalError, match=r"^no session a in the table$"):
        client.session("a")


def test_a_status_names_its_program_first() -> None:
    assert list(RelayStatus.model_fields)[:2] == list(Program.model_fields)


# Where it asks ---------------------------------------------------------------------------------------------


class Tcp:
    """In the place of `httpx.request`, which the client uses over TCP alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: int = 200) -> None:
        self.status = status
        self.asked: list[tuple[str, dict[str, str]]] = []
        monkeypatch.setattr(httpx, "request", self._request)

    def _request(self, _: str, url: str, *, headers: dict[str, str], **__: object) -> httpx.Response:
        self.asked.append((url, headers))
        if self.status == 0:
            raise httpx.ConnectError("connection refused")
        body = {"version": "tcp", "instance": "a"} if self.status == 200 else {"message": "ask on the socket"}
        return httpx.Response(self.status, json=body)


class Listening:
    """Answers one request on a Unix socket, or only takes it. Before that, it says which relay it is if it is asked."""

    def __init__(self, path: Path, body: bytes, about: bytes = b"") -> None:
        self._about = about
        self.told = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._answer, args=(body,))
        self.asked = b""
        self._thread.start()

    def _answer(self, body: bytes) -> None:
        while not self.asked:  # the first connection only shows that somebody listens
            taken, _ = self._socket.accept()
            with taken:
                self.asked = taken.recv(65536)
                if self.asked.startswith(b"GET /v1/relay "):
                    self._send(taken, self._about)
                    self.told += 1
                    self.asked = taken.recv(65536)
                    if not self.asked:
                        return  # whoever asked wants nothing more of this relay
                if body and self.asked:
                    self._send(taken, body)

    @staticmethod
    def _send(taken: socket.socket, body: bytes) -> None:
        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


def client_for(path: Path, **admin: object) -> AdminClient:
    return AdminClient(Settings.model_validate({"admin": {"socket": path, **admin}}))


def test_the_socket_is_asked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tcp = Tcp(monkeypatch)
    token = tmp_path / "token"
    token.write_text("secret")
    listening = Listening(tmp_path / "admin.sock", b'{"version": "socket", "instance": "a"}')
    assert client_for(tmp_path / "admin.sock", token_file=token).upgrade().version == "socket"
    listening.close()
    assert listening.asked.startswith(b"POST /v1/upgrade HTTP/1.1\r\n")
    assert b"secret" not in listening.asked
    assert tcp.asked == []


@pytest.mark.parametrize("there", [False, True])
def test_where_nobody_listens_it_is_tcp_with_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    tcp = Tcp(monkeypatch)
    path, token = tmp_path / "admin.sock", tmp_path / "token"
    if there:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    token.write_text("secret\n")
    assert client_for(path, token_file=token).upgrade().version == "tcp"
    assert client_for(path).upgrade().version == "tcp", "a relay of before has no socket"
    url = "http://127.0.0.1:9464/v1/upgrade"
    assert tcp.asked == [(url, {"authorization": "Bearer secret"}), (url, {})]


@pytest.mark.parametrize("status", [401, 403, 421])
def test_a_relay_that_does_not_answer_this_user_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    Tcp(monkeypatch, status)
    with pytest.raises(RefusedError, match=r"^ask on the socket$"):
        client_for(tmp_path / "none").upgrade()


def test_where_neither_is_both_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Tcp(monkeypatch, 0)
    path = tmp_path / "admin.sock"
    with pytest.raises(
        UnavailableError, match=rf"^no relay answers on 127\.0\.0\.1:9464 .*{path}: No such file or directory"
    ):
        client_for(path).upgrade()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(UnavailableError, match=rf"{path}: Connection refused"):
        client_for(path).upgrade()


def test_one_that_takes_the_request_and_ends_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tcp = Tcp(monkeypatch)
    listening = Listening(tmp_path / "admin.sock", b"")
    with pytest.raises(UnavailableError, match=f"no relay answers on {tmp_path}/admin.sock"):
        client_for(tmp_path / "admin.sock").upgrade()
    listening.close()
    assert tcp.asked == [], "it may have done already what it was asked for"


# Whom it asks ----------------------------------------------------------------------------------------------


def client_in(directory: Path, **admin: object) -> AdminClient:
    """Of a relay whose socket is not named: others may have theirs at the same place."""
    sections = {"state": {"directory": directory}, "relay": {"server_port": 42100, "client_port": 42101}}
    return AdminClient(Settings.model_validate(sections | {"admin": admin}))


def test_another_relay_at_a_path_that_was_not_named_is_asked_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tcp = Tcp(monkeypatch, 0)
    path = tmp_path / "admin.sock"
    other = Listening(path, b"{}", b'{"server_port": 42000, "client_port": 42001}')
    with pytest.raises(
        UnavailableError, match=rf"{path}: another relay, with UDP ports 42000 and 42001; .*SOCKET={path}"
    ):
        client_in(tmp_path).drain()
    other.close()
    assert (other.told, other.asked) == (1, b"")
    assert [url for url, _ in tcp.asked] == ["http://127.0.0.1:9464/v1/drain"]


def test_the_relay_itself_is_asked_over_the_connection_on_which_it_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tcp = Tcp(monkeypatch)
    about = b'{"server_port": 42100, "client_port": 42101}'
    own = Listening(tmp_path / "admin.sock", b'{"version": "socket", "instance": "a"}', about)
    assert client_in(tmp_path).upgrade().version == "socket"
    own.close()
    assert (own.told, tcp.asked) == (1, [])


@pytest.mark.parametrize("about", [b"<html>", b"[]", b'{"server_port": 42100}'])
def test_what_does_not_say_which_relay_it_is_is_asked_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, about: bytes
) -> None:
    Tcp(monkeypatch, 0)
    one = Listening(tmp_path / "admin.sock", b"{}", about)
    with pytest.raises(UnavailableError, match="what answers there is no relay"):
        client_in(tmp_path).drain()
    one.close()
    assert one.asked == b""


def test_a_relay_at_another_host_is_not_looked_for_on_this_one() -> None:
    away = Settings.model_validate({"admin": {"bind": "203.0.113.7:9464"}})
    assert paths_to_ask(away, None) == []
    named = Settings.model_validate({"admin": {"bind": "203.0.113.7:9464"}, "state": {"directory": "/srv/state"}})
    assert paths_to_ask(named, None) == [Path("/srv/state/admin.sock")]
