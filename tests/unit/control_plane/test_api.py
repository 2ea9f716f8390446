"""The REST API in the process of the test: routes, keys, bodies and errors."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from relayd.control_plane.errors import StoreUnavailableError
from relayd.control_plane.server import open_control_plane
from relayd.control_plane.service import ControlPlane
from relayd.errors import ConfigurationError
from relayd.settings import ApiSettings
from tests.integration.waiting import PATIENCE_SECONDS
from tests.support.away import Away

KEY = "a key that has every scope"
SESSIONS = "/v1/relays/sessions"
NODE = "/v1/relays/nodes/paris"
BEAT = {"ip": "203.0.113.7", "host": "paris.example", "server_port": 1, "client_port": 2, "capacity": 10, "load": 0}


class Api:
    """A control plane that is asked in process, with a key that has every scope unless told otherwise."""

    def __init__(self, plane: ControlPlane, client: httpx.AsyncClient) -> None:
        self.plane = plane
        self.client = client

    async def ask(
        self, method: str, path: str, body: Any = None, key: str | None = KEY, **params: Any
    ) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"token {key}"}
        return await self.client.request(method, path, json=body, params=params, headers=headers)

    async def create(self, *ips: str) -> dict[str, Any]:
        """A session for users at these addresses."""
        answer = await self.ask("POST", SESSIONS, {"users": [{"ip": ip} for ip in ips or ("1.1.1.1",)]})
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def beat(self, **more: Any) -> dict[str, Any]:
        """A relay is heard."""
        answer = await self.ask("PUT", NODE, BEAT | more)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def taken(self) -> None:
        """A relay has read all that it is to serve."""
        await self.beat()
        page = (await self.ask("GET", f"{NODE}/sessions")).json()
        await self.beat(epoch=page["epoch"], revision=page["revision"])


Work = Callable[[Api], Coroutine[Any, Any, None]]


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Api]:
    api = ApiSettings(database=":memory:", **settings)
    async with open_control_plane(api, extra_key=KEY) as (plane, app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield Api(plane, client)


def with_api(work: Work, **settings: Any) -> None:
    async def started() -> None:
        async with opened(**settings) as api:
            await work(api)

    asyncio.run(started())


# Sessions ---------------------------------------------------------------------------------------------------


def test_a_session_from_its_creation_to_its_end() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        made = await api.create("1.1.1.1", "2.2.2.2")
        path = f"{SESSIONS}/{made['session_id']}"
        assert (made["ready"], made["authorization_token"]) == (False, None)
        await api.taken()
        ready = (await api.ask("GET", path)).json()
        assert (ready["status"], ready["ready"], ready["relay"]["ip"]) == ("Ready", True, "203.0.113.7")
        assert [user["ip_address"] for user in ready["session_users"]] == ["1.1.1.1", "2.2.2.2"]
        assert (await api.ask("DELETE", path)).status_code == 204
        assert (await api.ask("GET", path)).status_code == 404
        assert (await api.ask("DELETE", path)).status_code == 404

    with_api(work)


def test_a_session_that_no_relay_can_take_is_an_error_with_its_reason() -> None:
    async def work(api: Api) -> None:
        made = await api.create()
        assert made["status"] == "Error"
        assert made["error"]

    with_api(work)


def test_users_come_and_go() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        session_id = (await api.create())["session_id"]
        await api.taken()
        wanted = {"session_id": session_id, "user_ip": "3.3.3.3"}
        answer = await api.ask("POST", f"{SESSIONS}:authorize-user", wanted)
        token = answer.json()["session_user"]["authorization_token"]
        assert (await api.ask("POST", f"{SESSIONS}:authorize-user", wanted)).status_code == 409
        gone = {"session_id": session_id, "authorization_token": token}
        answer = await api.ask("POST", f"{SESSIONS}:revoke-user", gone)
        assert [user["ip_address"] for user in answer.json()["session_users"]] == ["1.1.1.1"]
        assert (await api.ask("POST", f"{SESSIONS}:revoke-user", gone)).status_code == 404

    with_api(work)


def test_the_list_comes_in_pages() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        made = [(await api.create())["session_id"] for _ in range(3)]
        first = (await api.ask("GET", SESSIONS, page=1, limit=2)).json()
        second = (await api.ask("GET", SESSIONS, page=2, limit=2)).json()
        assert [one["session_id"] for page in (first, second) for one in page["sessions"]] == made
        assert (first["total_count"], first["pagination"]["has_next"], second["pagination"]["has_next"]) == (
            3,
            True,
            False,
        )
        for odd in ({"page": 0}, {"limit": 0}, {"limit": "x"}, {"page": "1" * 30}, {"page": "١"}):
            assert (await api.ask("GET", SESSIONS, **odd)).status_code == 400, odd

    with_api(work)


@pytest.mark.parametrize(
    "body", [{}, {"users": 1}, {"users": [{"ip": "nowhere"}]}, [], {"users": []}, {"users": [{"ip": None}]}]
)
def test_a_body_that_is_no_request_is_explained(body: Any) -> None:
    async def work(api: Api) -> None:
        answer = await api.ask("POST", SESSIONS, body)
        assert answer.status_code == 400
        assert set(answer.json()) == {"message"}

    with_api(work)


def test_a_body_that_is_too_long_is_not_read_to_its_end() -> None:
    async def work(api: Api) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 10 << 20:
                sent += 1 << 16
                yield b" " * (1 << 16)

        headers = {"authorization": f"token {KEY}"}
        answer = await api.client.post(SESSIONS, content=endless(), headers=headers)
        assert answer.status_code == 413

    with_api(work)


def test_a_webhook_into_the_servers_own_network_is_refused() -> None:
    async def work(api: Api) -> None:
        wanted = {"users": ["1.1.1.1"], "webhook_url": "http://127.0.0.1/"}
        assert (await api.ask("POST", SESSIONS, wanted)).status_code == 400

    with_api(work)


# Relays -----------------------------------------------------------------------------------------------------


def test_a_relay_reads_what_it_is_to_serve_and_an_unchanged_answer_is_short() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        made = (await api.create())["session_id"]
        answer = await api.ask("GET", f"{NODE}/sessions")
        page = answer.json()
        assert (page["full"], [one["session_id"] for one in page["sessions"]], page["next"]) == (True, [made], None)
        headers = {"authorization": f"token {KEY}", "if-none-match": answer.headers["etag"]}
        again = await api.client.get(f"{NODE}/sessions", headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        await api.ask("DELETE", f"{SESSIONS}/{made}")
        since = {"since": page["revision"], "epoch": page["epoch"]}
        delta = (await api.ask("GET", f"{NODE}/sessions", **since)).json()
        assert (delta["full"], delta["removed"], delta["sessions"]) == (False, [made], [])

    with_api(work)


def test_pages_of_a_relays_sessions_go_on_where_the_last_one_ended() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        made = {(await api.create())["session_id"] for _ in range(5)}
        seen: list[str] = []
        after = None
        while True:
            params: dict[str, Any] = {"limit": 2} | ({"after": after} if after else {})
            page = (await api.ask("GET", f"{NODE}/sessions", **params)).json()
            seen += [one["session_id"] for one in page["sessions"]]
            after = page["next"]
            if after is None:
                break
        assert (len(seen), set(seen)) == (5, made)

    with_api(work)


def test_what_ended_at_the_relay_ends_here() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        made = (await api.create())["session_id"]
        await api.beat(ended=[made])
        assert (await api.ask("GET", f"{SESSIONS}/{made}")).status_code == 404

    with_api(work)


def test_a_name_that_another_relay_has_is_refused() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        answer = await api.ask("PUT", NODE, BEAT | {"ip": "203.0.113.8"})
        assert answer.status_code == 409

    with_api(work)


@pytest.mark.parametrize("path", ["/v1/relays/nodes/" + "x" * 200])
def test_what_cannot_be_the_name_of_a_relay_is_refused(path: str) -> None:
    async def work(api: Api) -> None:
        assert (await api.ask("PUT", path, BEAT)).status_code == 400

    with_api(work)


@pytest.mark.parametrize("wait", ["-1", "31", "soon", "nan"])
def test_how_long_an_answer_may_be_held_back_has_a_bound(wait: str) -> None:
    async def work(api: Api) -> None:
        assert (await api.ask("PUT", NODE, BEAT, wait=wait)).status_code == 400

    with_api(work)


def test_a_relay_that_was_never_heard_has_nothing_to_read() -> None:
    async def work(api: Api) -> None:
        assert (await api.ask("GET", f"{NODE}/sessions")).status_code == 404

    with_api(work)


# Usage ------------------------------------------------------------------------------------------------------


def record(sequence: int, to_host: int, at: float) -> dict[str, Any]:
    counts = {"to_host_datagrams": to_host, "to_host_bytes": 0, "to_player_datagrams": 0, "to_player_bytes": 0}
    return {
        "sequence": sequence,
        "span": "span",
        "session_id": "game",
        "kind": "interim",
        "reason": None,
        "began_at": 1.0,
        "from_at": at - 1,
        "to_at": at,
        "delta": counts,
        "total": counts,
    }


def test_usage_is_taken_once_however_often_it_comes() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        report = {"stream": "s", "records": [record(1, 5, 10.0), record(2, 9, 20.0)]}
        for _ in range(2):
            assert (await api.ask("POST", f"{NODE}/usage", report)).status_code == 204
        shown = (await api.ask("GET", "/v1/relays/usage")).json()
        assert "game" in str(shown)
        assert "9" in str(shown)

    with_api(work)


@pytest.mark.parametrize("params", [{"since": "-1"}, {"since": "x"}, {"limit": "0"}])
def test_an_odd_question_about_usage_is_refused(params: dict[str, str]) -> None:
    async def work(api: Api) -> None:
        assert (await api.ask("GET", "/v1/relays/usage", **params)).status_code == 400

    with_api(work)


def test_usage_that_is_none_is_refused() -> None:
    async def work(api: Api) -> None:
        await api.beat()
        assert (await api.ask("POST", f"{NODE}/usage", {"stream": "s", "records": [{}]})).status_code == 400

    with_api(work)


# Keys -------------------------------------------------------------------------------------------------------

EVERY_ROUTE = [
    ("POST", SESSIONS),
    ("GET", SESSIONS),
    ("GET", f"{SESSIONS}/000000000000-S"),
    ("DELETE", f"{SESSIONS}/000000000000-S"),
    ("POST", f"{SESSIONS}:authorize-user"),
    ("POST", f"{SESSIONS}:revoke-user"),
    ("PUT", NODE),
    ("GET", f"{NODE}/sessions"),
    ("POST", f"{NODE}/usage"),
    ("GET", "/v1/relays/usage"),
    ("GET", "/v1/ip"),
]


@pytest.mark.parametrize(("method", "path"), EVERY_ROUTE)
def test_nothing_is_answered_without_a_key_or_with_a_wrong_one(method: str, path: str) -> None:
    async def work(api: Api) -> None:
        for key in (None, "wrong", "relayd_0123456789abcdef_wrong"):
            answer = await api.ask(method, path, key=key)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "token"
            assert "wrong" not in answer.text

    with_api(work)


def test_a_key_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first")

    async def work(api: Api) -> None:
        assert (await api.ask("GET", SESSIONS, key="first")).status_code == 200
        file.write_text("second")
        assert (await api.ask("GET", SESSIONS, key="second")).status_code == 200
        assert (await api.ask("GET", SESSIONS, key="first")).status_code == 401
        os.truncate(file, 0)
        with capture_logs() as logs:
            assert (await api.ask("GET", SESSIONS, key="second")).status_code == 200, "half-written: the old one stays"
        assert [line["log_level"] for line in logs] == ["warning"]

    with_api(work, token_file=file)


def test_a_key_file_that_hangs_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("first")

    async def work(api: Api) -> None:
        away = Away(monkeypatch)
        monkeypatch.setattr("relayd.control_plane.api.auth._LOOK_SECONDS", 0.01)
        for _ in range(3):
            assert (await api.ask("GET", SESSIONS, key="first")).status_code == 200
        assert len(away.hanging) == 1, "one look at a time"
        file.write_text("second")
        away.comes_back()
        monkeypatch.setattr("relayd.control_plane.api.auth._LOOK_SECONDS", PATIENCE_SECONDS)
        assert (await api.ask("GET", SESSIONS, key="second")).status_code == 200

    with_api(work, token_file=file)


def test_a_key_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    async def work(api: Api) -> None: ...

    with pytest.raises(ConfigurationError, match=r"api\.token_file"):
        with_api(work, token_file=tmp_path / "nowhere")


def test_a_database_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database" * 1000)

    async def work() -> None:
        async with open_control_plane(ApiSettings(database=str(tmp_path / "db"))):
            raise AssertionError

    with pytest.raises(ConfigurationError, match=r"api\.database"):
        asyncio.run(work())


# Errors and pages ---------------------------------------------------------------------------------------------


def test_what_is_not_there_and_what_is_not_taken_there() -> None:
    async def work(api: Api) -> None:
        assert (await api.ask("GET", "/v1/nothing")).status_code == 404
        answer = await api.ask("PATCH", SESSIONS)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
        assert set(answer.json()) == {"message"}

    with_api(work)


def test_the_description_and_its_page_need_no_key() -> None:
    async def work(api: Api) -> None:
        described = (await api.ask("GET", "/openapi.json", key=None)).json()
        assert SESSIONS in described["paths"]
        answered = described["components"]["schemas"]["RelaySession"]
        assert "error" not in answered["required"]
        assert not [name for name, field in answered["properties"].items() if "default" in field], "answers have none"
        page = await api.ask("GET", "/docs", key=None)
        assert page.headers["content-type"].startswith("text/html")

    with_api(work)


def test_a_store_that_is_not_there_is_a_reason_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailableError("The disk is full.")

    async def work(api: Api) -> None:
        monkeypatch.setattr(api.plane, "list", away)
        answer = await api.ask("GET", SESSIONS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json() == {"message": "The disk is full."}

    with_api(work)


def test_a_defect_is_logged_and_says_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    async def work(api: Api) -> None:
        monkeypatch.setattr(api.plane, "list", broken)
        with capture_logs() as logs:
            answer = await api.ask("GET", SESSIONS)
        assert (answer.status_code, "secret" in answer.text) == (500, False)
        assert [line["path"] for line in logs if line["log_level"] == "error"] == [SESSIONS]

    with_api(work)
