"""The public API over real HTTP."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.integration.control_plane.process import KEY, FakeRelay, Server, until
from tests.integration.waiting import PATIENCE_SECONDS

SESSIONS = "/v1/relays/sessions"


def test_a_session_from_creation_to_deletion(shared: Server) -> None:
    relay = FakeRelay(shared)
    relay.beat()
    session = shared.create({"ip": "1.1.1.1", "latitude": 50.0, "longitude": 8.0}, "2.2.2.2")
    assert re.fullmatch(r"[0-9a-f]{12}-S", session["session_id"])
    assert session == {
        "session_id": session["session_id"], "status": "Initializing", "ready": False, "linked": False, "relay": None,
        "authorization_token": None, "session_users": [],
    }  # fmt: skip
    assert shared.get(session) == session
    relay.sync()
    ready = shared.get(session)
    assert (ready["status"], ready["ready"], ready["linked"]) == ("Ready", True, True)
    assert ready["relay"] == {
        "ip": "203.0.113.7",
        "host": "relay-1.example.net",
        "ports": {
            "server": {"port": 32000, "protocol": "UDP", "link": "relay-1.example.net:32000"},
            "client": {"port": 32001, "protocol": "UDP", "link": "relay-1.example.net:32001"},
        },
    }
    host, player = ready["session_users"]
    assert (host["ip_address"], player["ip_address"]) == ("1.1.1.1", "2.2.2.2")
    assert (host["latitude"], host["longitude"]) == (50.0, 8.0)
    tokens = {ready["authorization_token"], host["authorization_token"], player["authorization_token"]}
    assert len(tokens) == 3
    assert all(0 < token < 2**32 for token in tokens)
    assert relay.sessions[session["session_id"]]["authorization_token"] == ready["authorization_token"]
    shared.delete(session)
    assert shared.client.get(f"{SESSIONS}/{session['session_id']}").status_code == 404
    assert shared.client.delete(f"{SESSIONS}/{session['session_id']}").status_code == 404


def test_authorize_and_revoke(shared: Server) -> None:
    relay = FakeRelay(shared)
    relay.beat()
    session = shared.create("1.1.1.1")
    relay.sync()
    asked = {"session_id": session["session_id"], "user_ip": "3.3.3.3"}
    answer = shared.client.post(f"{SESSIONS}:authorize-user", json=asked)
    assert answer.status_code == 200
    body = answer.json()
    assert body["session_user"]["ip_address"] == "3.3.3.3"
    assert "session_users" not in body
    assert body["ready"] is True, "a later user does not make a session unready"
    again = shared.client.post(f"{SESSIONS}:authorize-user", json=asked | {"user_ip": "::ffff:3.3.3.3"})
    assert again.status_code == 409
    assert set(again.json()) == {"message"}
    token = body["session_user"]["authorization_token"]
    revoked = shared.client.post(
        f"{SESSIONS}:revoke-user", json={"session_id": session["session_id"], "authorization_token": token}
    )
    assert revoked.status_code == 200
    assert [user["ip_address"] for user in revoked.json()["session_users"]] == ["1.1.1.1"]
    relay.read()
    assert len(relay.sessions[session["session_id"]]["session_users"]) == 1
    for unknown in (token, 0, -1, 2**40, 2**80):
        gone = {"session_id": session["session_id"], "authorization_token": unknown}
        assert shared.client.post(f"{SESSIONS}:revoke-user", json=gone).status_code == 404


def test_unknown_sessions(shared: Server) -> None:
    asked = {"session_id": "000000000000-S", "user_ip": "3.3.3.3", "authorization_token": 1}
    for answer in (
        shared.client.get(f"{SESSIONS}/nope"),
        shared.client.get(f"{SESSIONS}/%00%ff"),
        shared.client.delete(f"{SESSIONS}/nope"),
        shared.client.post(f"{SESSIONS}:authorize-user", json=asked),
        shared.client.post(f"{SESSIONS}:revoke-user", json=asked),
        shared.client.get("/v1/nothing"),
    ):
        assert answer.status_code == 404
        assert set(answer.json()) == {"message"}
    assert shared.client.post(f"{SESSIONS}:authorize-user", json=asked | {"session_id": "nope"}).status_code == 400


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}:authorize-user", f"{SESSIONS}:revoke-user"])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff\xfe", b"nul", b"null", b"[]", b'"x"', b"NaN", b'{"users": NaN}',
        b'{"users": ' + b"9" * 100_000 + b"}",
        b"[" * 200_000, b'{"a":' * 40_000, b'{"session_id": "\\ud800", "user_ip": "1.1.1.1", "users": ["\\ud800"]}',
        b'{"session_id": 1, "user_ip": 1, "users": 1, "authorization_token": 1e400}', b"users=1.1.1.1", b"\0" * 1000,
    ],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_bodies_that_are_no_request(shared: Server, path: str, body: bytes) -> None:
    for kind in (
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-7",
        "\xe9",
    ):
        answer = shared.client.post(path, content=body, headers={b"Content-Type": kind.encode("latin-1")})
        assert answer.status_code == 400, answer.text
        assert set(answer.json()) == {"message"}


def test_too_long_a_body(shared: Server) -> None:
    answer = shared.client.post(SESSIONS, content=b" " * (256 * 1024 + 1))
    assert (answer.status_code, set(answer.json())) == (413, {"message"})


def test_methods_that_are_not_there(shared: Server) -> None:
    answer = shared.client.patch(SESSIONS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert set(answer.json()) == {"message"}


def test_pages(server: Server) -> None:
    relay = FakeRelay(server)
    empty = server.client.get(SESSIONS).json()
    assert (empty["sessions"], empty["total_count"], empty["pagination"]["paginator"]["num_pages"]) == ([], 0, 1)
    relay.beat()
    made = [server.create()["session_id"] for _ in range(5)]
    pages = [server.client.get(SESSIONS, params={"page": n, "limit": 2}).json() for n in (1, 2, 3, 4)]
    assert [[session["session_id"] for session in page["sessions"]] for page in pages] == [
        made[:2],
        made[2:4],
        made[4:],
        [],
    ]
    assert {page["total_count"] for page in pages} == {5}
    assert [page["pagination"]["next_page_number"] for page in pages] == [2, 3, None, None]
    assert [page["pagination"]["previous_page_number"] for page in pages] == [None, 1, 2, 3]
    for wrong in ("0", "-1", "x", "1.5", " ", "٣", "9" * 30):
        assert server.client.get(SESSIONS, params={"page": wrong}).status_code == 400
        assert server.client.get(SESSIONS, params={"limit": wrong}).status_code == 400
    assert server.client.get(SESSIONS, params={"limit": 1001}).status_code == 400


def test_no_relay_or_none_that_fits(server: Server) -> None:
    failed = server.create()
    assert (failed["status"], failed["ready"], failed["linked"]) == ("Error", False, False)
    assert "alive" in failed["error"]
    relay = FakeRelay(server)
    relay.beat()
    assert server.get(failed)["status"] == "Error", "it stays so"
    condition = {"field": "city", "values": ["Berlin"], "filter_type": "not"}
    assert "filters" in server.create(filters=[condition])["error"]
    assert server.create(filters=[condition | {"filter_type": "any"}])["status"] == "Initializing"
    relay.about["draining"] = True
    relay.beat()
    assert "draining" in server.create()["error"]
    asked = {"session_id": failed["session_id"], "user_ip": "1.2.3.4"}
    assert server.client.post(f"{SESSIONS}:authorize-user", json=asked).status_code == 409


def test_sessions_just_placed_count_as_load(server: Server) -> None:
    FakeRelay(server, capacity=4).beat()
    assert server.create("1.1.1.1", "1.1.1.2")["status"] == "Initializing"
    assert server.create("1.1.1.1", "1.1.1.2")["status"] == "Initializing"
    assert "room" in server.create()["error"]


def test_fifty_clients_authorize_at_once_and_none_is_lost(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_SECONDS, trust_env=False
        ) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        f"{SESSIONS}:authorize-user",
                        json={"session_id": session["session_id"], "user_ip": f"10.0.{n % 2}.{n // 4}"},
                    )
                    for n in range(100)
                )
            )

    answers = asyncio.run(all_at_once())
    assert sorted({answer.status_code for answer in answers}) == [200, 409]
    taken = [answer.json()["session_user"]["authorization_token"] for answer in answers if answer.status_code == 200]
    assert len(taken) == len(set(taken)) == 50
    relay.sync()
    users = server.get(session)["session_users"]
    assert {user["authorization_token"] for user in users[1:]} == set(taken)
    assert len({user["ip_address"] for user in users}) == 51


def test_keys_and_scopes(server: Server) -> None:
    assert httpx.get(server.url + SESSIONS).status_code == 401
    for wrong in ("x", "rk_000000000000_" + "a" * 43, "é"):
        header = {b"Authorization": f"token {wrong}".encode()}
        answer = server.client.get(SESSIONS, headers=header)
        assert (answer.status_code, set(answer.json())) == (401, {"message"})
    made = server.command("keys", "add", "reader", "--scope", "sessions:read")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    listed = server.command("keys", "list").stdout
    assert "reader" in listed
    assert "sessions:read" in listed
    assert key not in listed
    assert key.encode() not in server.database.read_bytes()
    with server.with_key(key) as reader:
        assert reader.get(SESSIONS).status_code == 200
        assert reader.post(SESSIONS, json={"users": ["1.1.1.1"]}).status_code == 403
        assert reader.put("/v1/relays/nodes/x", json={}).status_code == 403
        assert reader.get("/v1/relays/nodes/x/sessions").status_code == 403
        key_id = key.split("_")[1]
        assert server.command("keys", "revoke", key_id).returncode == 0
        assert reader.get(SESSIONS).status_code == 401
    assert server.command("keys", "revoke", key_id).returncode == 64
    assert key not in server.log.read_text()


def test_a_changed_token_file_is_read_again(server: Server) -> None:
    (server.directory / "key").write_text("another-key\n")
    assert server.client.get(SESSIONS).status_code == 401
    with server.with_key("another-key") as client:
        assert client.get(SESSIONS).status_code == 200


def test_sessions_survive_restart_and_kill(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create("1.1.1.1", "2.2.2.2")
    relay.sync()
    before = server.get(session)
    assert server.stop() == 0
    server.start()
    assert server.get(session) == before
    server.kill()
    server.start()
    assert server.get(session) == before
    newest = relay.beat()
    assert newest == {"epoch": newest["epoch"], "revision": relay.revision}, (
        "it is another start, and has all there was"
    )
    assert server.create()["status"] == "Initializing", "its relay is still known"


def test_tokens_are_not_logged(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()
    relay.sync()
    ready = server.get(session)
    log = until("it is logged", lambda: text if "session ready" in (text := server.log.read_text()) else "")
    for token in (ready["authorization_token"], ready["session_users"][0]["authorization_token"]):
        assert str(token) not in log
        assert f"{token:08x}" not in log
    assert KEY not in log


def test_requests_under_way_are_finished_and_held_ones_let_go(server: Server) -> None:
    FakeRelay(server).beat()
    relay = FakeRelay(server, "relay-2")
    relay.epoch = FakeRelay(server).beat()["epoch"]
    with ThreadPoolExecutor() as pool:
        held = pool.submit(relay.beat, 30)
        until("the heartbeat came in", lambda: "relay-2" in server.log.read_text())
        assert not held.done()
        assert server.stop() == 0
        assert held.result(PATIENCE_SECONDS) == {"epoch": relay.epoch, "revision": 0}


def test_errors_repeat_neither_keys_nor_tokens(shared: Server) -> None:
    secret, token = "a-key-that-is-nobody-s", 3_141_592_653
    session = shared.create()["session_id"]
    with shared.with_key(secret) as stranger:
        said = [stranger.get("/v1/relays/sessions").text]
    for wrong in (str(token), [token], token << 32, {"token": token}, token + 0.5, token):
        body = {"session_id": session, "authorization_token": wrong}
        said.append(shared.client.post("/v1/relays/sessions:revoke-user", json=body).text)
    said.append(shared.client.post("/v1/relays/sessions", content=f'{{"users": {token}, "key": "{secret}"').text)
    said.append(shared.log.read_text())
    assert [text for text in said if secret in text or str(token) in text] == []
