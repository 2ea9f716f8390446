"""The link with heartbeats: what is sent, and what of the answers is taken."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.core.usage import UsageBatch, UsageRefusedError
from relayd.session_source.control_plane.link import FleetSockets, LinkError, News, Reading, Report, Version
from relayd.session_source.control_plane.node_api import NodeApi, NodesNotKnownError
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings
from tests.support.virtual_loop import run

RELAY = RelaySettings(id="paris", public_ip="203.0.113.7", public_host="paris.example", server_port=1, client_port=2)
NOTHING = Report(None, Load(0, False), ())
GAME = {"session_id": "game", "authorization_token": 7, "session_users": [{"authorization_token": 8}]}
NOT_READY = {"session_id": "soon", "authorization_token": None, "ready": False}


class Server:
    """Answers in turn what it is given, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = iter(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return next(self._answers)

    def use(self, work: Callable[[NodeApi], Any]) -> Any:
        async def with_link() -> Any:
            client = HttpClient("http://cp", lambda: None, 5.0, transport=httpx.MockTransport(self))
            link = NodeApi(client, RELAY, Limits(max_bound_users=50))
            try:
                return await work(link)
            finally:
                await link.close()

        return run(with_link())


async def all_parts(link: NodeApi, applied: Version | None = None) -> list[Reading]:
    return [part async for part in link.read(applied)]


def page(
    revision: int = 3, epoch: str = "e", full: bool = True, next_: str | None = None, **more: object
) -> httpx.Response:
    body = {"epoch": epoch, "revision": revision, "full": full, "sessions": [GAME], "removed": [], "next": next_}
    return httpx.Response(200, json=body | more)


def test_a_heartbeat_says_all_there_is_to_know_of_the_relay() -> None:
    server = Server(httpx.Response(200, json={"epoch": "e", "revision": 4}))
    report = Report(Version("e", 3), Load(12, True), ("a", "b"))
    assert server.use(lambda link: link.heartbeat(report, 2.5)) == News(Version("e", 4))
    (asked,) = server.asked
    assert (asked.method, asked.url.path, asked.url.params["wait"]) == ("PUT", "/v1/relays/nodes/paris", "2.5")
    said = json.loads(asked.content)
    assert said["ip"] == "203.0.113.7"
    assert (said["server_port"], said["client_port"], said["capacity"]) == (1, 2, 50)
    assert (said["load"], said["draining"], said["epoch"], said["revision"]) == (12, True, "e", 3)
    assert said["ended"] == ["a", "b"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_control_plane_without_heartbeats_is_told_apart(status: int) -> None:
    server = Server(httpx.Response(status, json={"message": "no such path"}))
    with pytest.raises(NodesNotKnownError):
        server.use(lambda link: link.heartbeat(NOTHING, 0.0))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"epoch": "", "revision": 1}, "epoch"),
        ({"epoch": "e", "revision": "1"}, "revision"),
        ({"epoch": "e", "revision": -1}, "revision"),
        ([], "answer"),
    ],
)
def test_an_odd_answer_is_refused_by_the_name_of_its_field(body: object, field: str) -> None:
    with pytest.raises(LinkError, match=f"/v1/relays/nodes/paris: {field}: "):
        Server(httpx.Response(200, json=body)).use(lambda link: link.heartbeat(NOTHING, 0.0))


def test_pages_are_read_to_the_end_under_the_state_of_the_first() -> None:
    server = Server(page(3, next_="game"), page(5, sessions=[], removed=["gone"], full=True))
    first, second = server.use(all_parts)
    assert [one.url.params.get("after") for one in server.asked] == [None, "game"]
    assert (first.version, second.version) == (Version("e", 3), Version("e", 3))
    assert [spec.session_id for spec in first.upserts] == ["game"]
    assert (first.full, second.removals) == (True, ("gone",))


def test_changes_are_asked_for_since_what_is_applied() -> None:
    server = Server(page(full=False))
    server.use(lambda link: all_parts(link, Version("e", 2)))
    assert dict(server.asked[0].url.params) == {"limit": "500", "epoch": "e", "since": "2"}


def test_a_session_that_is_not_ready_is_left_out() -> None:
    (part,) = Server(page(sessions=[NOT_READY, GAME])).use(all_parts)
    assert [spec.session_id for spec in part.upserts] == ["game"]


@pytest.mark.parametrize("second", [page(epoch="other"), page(full=False)])
def test_a_history_that_changes_between_two_pages_is_worth_nothing(second: httpx.Response) -> None:
    with pytest.raises(LinkError, match="changed its history"):
        Server(page(next_="game"), second).use(all_parts)


def test_a_broken_session_is_named_without_its_token() -> None:
    with pytest.raises(LinkError) as caught:
        Server(page(sessions=[GAME | {"authorization_token": "secret"}])).use(all_parts)
    assert "authorization_token" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_whoever_stops_reading_half_way_leaves_no_request_behind() -> None:
    async def half(link: NodeApi) -> None:
        parts = link.read(None)
        await anext(parts)
        await parts.aclose()

    server = Server(page(next_="game"), page())
    server.use(half)
    assert len(server.asked) <= 2


BATCH = UsageBatch("stream", ())


def test_usage_is_handed_over() -> None:
    server = Server(httpx.Response(204))
    server.use(lambda link: link.take_usage(BATCH))
    assert (server.asked[0].method, server.asked[0].url.path) == ("POST", "/v1/relays/nodes/paris/usage")
    assert json.loads(server.asked[0].content) == {"stream": "stream", "records": []}


@pytest.mark.parametrize("status", [400, 413])
def test_usage_that_is_refused_for_good_is_told_apart_from_a_failure(status: int) -> None:
    with pytest.raises(UsageRefusedError, match="too odd"):
        Server(httpx.Response(status, json={"message": "too odd"})).use(lambda link: link.take_usage(BATCH))


def test_a_proxy_that_refuses_usage_has_not_refused_it_for_good() -> None:
    with pytest.raises(LinkError):
        Server(httpx.Response(400, json=["a proxy"])).use(lambda link: link.take_usage(BATCH))


def test_each_address_of_a_relay_is_told_with_each_of_its_ports() -> None:
    relays = [{"addresses": ["203.0.113.9", "2001:db8::9"], "ports": [3, 4]}, {"addresses": [], "ports": [5]}]
    body = {"epoch": "e", "revision": 4, "fleet": {"digest": "d", "relays": relays}}
    server = Server(httpx.Response(200, json=body))
    report = NOTHING._replace(fleet="before")
    sockets = {(ip, port) for ip in ("203.0.113.9", "2001:db8::9") for port in (3, 4)}
    assert server.use(lambda link: link.heartbeat(report, 0.0)) == News(
        Version("e", 4), FleetSockets("d", frozenset(sockets))
    )
    assert json.loads(server.asked[0].content)["fleet"] == "before"
