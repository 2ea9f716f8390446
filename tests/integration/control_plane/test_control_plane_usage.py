"""Usage over real HTTP."""

import asyncio
from typing import Any

import pytest

from relayd.core.limits import Limits
from relayd.core.usage import UsageBatch, UsageRecord, UsageRefusedError
from relayd.session_source.control_plane.node_api import NodeApi
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings
from tests.integration.control_plane.process import KEY, Server

REPORT = "/v1/relays/nodes/relay-1/usage"
NONE = {"to_host_datagrams": 0, "to_host_bytes": 0, "to_player_datagrams": 0, "to_player_bytes": 0}
SOME = {"to_host_datagrams": 3, "to_host_bytes": 300, "to_player_datagrams": 4, "to_player_bytes": 400}


def record(session_id: str = "a", sequence: int = 1, **more: object) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "span": f"span-of-{session_id}",
        "session_id": session_id,
        "kind": "interim",
        "reason": None,
        "began_at": 100.0,
        "from_at": 100.0,
        "to_at": 160.5,
        "delta": SOME,
        "total": SOME,
        **more,
    }


def report(server: Server, *records: dict[str, Any], stream: str = "stream") -> int:
    return server.client.post(REPORT, json={"stream": stream, "records": records}).status_code


def test_reported_and_read(server: Server) -> None:
    stop = record("b", 2, kind="stop", reason="removed")
    assert [report(server, record("a"), stop) for _ in range(2)] == [204, 204]
    counts = {"to_host": {"datagrams": 3, "bytes": 300}, "to_player": {"datagrams": 4, "bytes": 400}}
    about = {"relay": "relay-1", "from": 100.0, "to": 160.5, **counts}
    assert server.client.get("/v1/relays/usage").json() == {
        "usage": [{"session_id": "a", "ended": False, **about}, {"session_id": "b", "ended": True, **about}],
        "next": None,
    }
    server.stop()
    server.start()
    assert report(server, record("a"), stop) == 204
    assert server.client.get("/v1/relays/usage", params={"session_id": "b"}).json()["usage"][0]["to_host"] == {
        "datagrams": 3,
        "bytes": 300,
    }


def test_pages(server: Server) -> None:
    assert report(server, *(record(f"s{number}", number) for number in range(1, 8))) == 204
    found: list[str] = []
    parameters: dict[str, Any] = {"limit": 3, "since": 0, "until": 1000, "relay": "relay-1"}
    while True:
        page = server.client.get("/v1/relays/usage", params=parameters).json()
        found += [one["session_id"] for one in page["usage"]]
        if page["next"] is None:
            break
        parameters["after"] = page["next"]
    assert found == [f"s{number}" for number in range(1, 8)]


@pytest.mark.parametrize(
    "bad",
    [
        {"sequence": 0},
        {"sequence": "one"},
        {"span": ""},
        {"session_id": ""},
        {"kind": "other"},
        {"reason": "other"},
        {"to_at": -1},
        {"to_at": "nan"},
        {"total": {**SOME, "to_host_bytes": -1}},
        {"total": {**SOME, "to_host_bytes": 2**60}},
        {"total": {}},
    ],
    ids=str,
)
def test_records_that_are_refused(shared: Server, bad: dict[str, Any]) -> None:
    assert report(shared, {**record("refused"), **bad}) == 400
    assert shared.client.get("/v1/relays/usage", params={"session_id": "refused"}).json()["usage"] == []


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"since": "x"}, {"until": "-1"}, {"until": "nan"}, {"after": "x"}], ids=str
)
def test_questions_that_are_refused(shared: Server, query: dict[str, Any]) -> None:
    answer = shared.client.get("/v1/relays/usage", params=query)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(next(iter(query)))


def test_too_many_at_once(shared: Server) -> None:
    assert report(shared, *(record("many", number) for number in range(1, 1002))) == 400


def test_too_much_at_once(shared: Server) -> None:
    body = b" " * ((2 << 20) + 1)
    assert shared.client.post(REPORT, content=body).status_code == 413
    assert shared.client.post(REPORT, content=iter([body])).status_code == 413


@pytest.mark.parametrize(
    ("scope", "reads", "reports"),
    [("sessions:read", 200, 403), ("sessions:write", 403, 403), ("nodes:write", 403, 204)],
)
def test_scopes(shared: Server, scope: str, reads: int, reports: int) -> None:
    key = shared.command("keys", "add", "one", "--scope", scope).stdout.strip()
    with shared.with_key(key) as client:
        assert client.get("/v1/relays/usage").status_code == reads
        assert client.post(REPORT, json={"stream": "x", "records": []}).status_code == reports


def test_a_relay_knows_what_is_refused_for_good_from_what_is_not_taken_now(shared: Server) -> None:
    fine = UsageRecord.from_fields(record("known"))
    client = HttpClient(shared.url, lambda: KEY, 5.0)
    relay = RelaySettings(id="relay-1", public_ip="203.0.113.1", public_host="r")

    async def hand_over(*records: UsageRecord) -> None:
        await NodeApi(client, relay, Limits()).take_usage(UsageBatch("stream", records))

    async def work() -> None:
        with pytest.raises(UsageRefusedError, match=r"records\.1\.session_id"):
            await hand_over(fine, fine._replace(session_id="x" * 129))
        await hand_over(fine)
        await client.close()

    asyncio.run(work())
    assert len(shared.client.get("/v1/relays/usage", params={"session_id": "known"}).json()["usage"]) == 1
