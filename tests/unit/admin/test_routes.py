"""What the admin server answers, path by path."""

import asyncio
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from relayd import __version__
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView
from relayd.core.wire import Port
from relayd.log import short_token
from tests.support.admin_server import AdminWorld, FakeKernel, with_admin
from tests.support.relays import ALICE, ALICE_AT, HOST, ONGOING, SESSION, spec
from tests.support.virtual_loop import now


def play(world: AdminWorld) -> None:
    """A host and Alice are bound, and Alice has sent something."""
    world.relay.host_pings()
    world.relay.player_pings()
    world.relay.player_sends()


def test_health_is_that_it_answers() -> None:
    async def work(world: AdminWorld) -> None:
        assert (await world.client.get("/healthz")).text == "ok\n"

    with_admin(work)


def test_it_is_not_ready_before_there_are_sessions_and_says_why() -> None:
    async def work(world: AdminWorld) -> None:
        world.relay.table.loaded = False
        answer = await world.client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "no sessions yet: still reading them\n")
        world.source.failed("the file is empty")
        assert "the file is empty" in (await world.client.get("/readyz")).text
        world.relay.table.loaded = True
        answer = await world.client.get("/readyz")
        assert answer.status_code == 200
        assert "not followed: the file is empty" in answer.text, "ready is a claim: what it lacks is said"
        world.source.succeeded(now())
        assert (await world.client.get("/readyz")).text == "ready\n"
        assert world.kernel is not None
        world.kernel.interface_views = [InterfaceView("eth0", InterfaceState.LOSES, problem="eth0 loses")]
        answer = await world.client.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ready\nfast path: eth0 loses\n")
        problem, way_out = "fast_path.interfaces: no interface v9; there are lo", "it is taken up when it comes"
        world.kernel.interface_views = [InterfaceView("v9", InterfaceState.AWAY, problem=problem, way_out=way_out)]
        world.source.failed("the file is empty")
        assert (await world.client.get("/readyz")).text.splitlines() == [
            "ready",
            "the session source is not followed: the file is empty",
            "fast path: no interface v9; there are lo; it is taken up when it comes",
        ]

    with_admin(work, kernel=FakeKernel())


def test_the_ports() -> None:
    async def work(world: AdminWorld) -> None:
        assert await world.get("/v1/relay") == {"server_port": 32000, "client_port": 32001}

    with_admin(work)


def test_sessions_come_in_pages_and_only_those_shown_are_brought_up_to_date() -> None:
    async def work(world: AdminWorld) -> None:
        body = await world.get("/v1/sessions", limit=2, offset=1)
        assert body["total_count"] == 4
        assert [one["session_id"] for one in body["sessions"]] == ["game-1", "game-2"]
        assert [[one.session_id for one in call] for call in world.absorbed] == [["game-1", "game-2"]]

    with_admin(work, specs=[spec(f"game-{number}", SESSION + number) for number in range(4)])


def test_a_session_in_summary() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        world.relay.player_sends(user=4711)
        (shown,) = (await world.get("/v1/sessions"))["sessions"]
        assert shown == {
            "session_id": "game",
            "users": 3,
            "host_bound": True,
            "players_bound": 1,
            "to_host": {"datagrams": 1, "bytes": shown["to_host"]["bytes"]},
            "to_player": {"datagrams": 0, "bytes": 0},
            "dropped": 1,
        }
        assert shown["to_host"]["bytes"] > len(ONGOING)

    with_admin(work)


def test_only_those_who_play_if_that_is_asked() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        body = await world.get("/v1/sessions", active=True)
        assert (body["total_count"], [one["session_id"] for one in body["sessions"]]) == (1, ["game"])

    with_admin(work, specs=[spec(), spec("empty", SESSION + 1)])


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"offset": -1}, {"limit": "many"}])
def test_what_no_page_can_be_is_refused(params: dict[str, Any]) -> None:
    async def work(world: AdminWorld) -> None:
        assert (await world.client.get("/v1/sessions", params=params)).status_code == 422

    with_admin(work)


def test_a_session_in_full_with_tokens_shortened() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        await asyncio.sleep(2.5)
        answer = await world.client.get("/v1/sessions/game")
        assert str(SESSION) not in answer.text
        assert str(ALICE) not in answer.text
        shown = answer.json()
        assert shown["authorization_token"] == short_token(SESSION)
        users = {user["role"]: user for user in shown["users"]}
        assert set(users) == {"host", "player", None}
        (binding,) = users["player"]["bindings"]
        assert binding["address"] == {"ip": ALICE_AT[0], "port": ALICE_AT[1]}
        assert (binding["bound_seconds"], binding["last_seen_seconds_ago"]) == (2.5, 2.5)
        assert binding["connection_id"] == 1
        assert binding["pings"]["heard"] == 1
        assert "connection_id" not in users["host"]["bindings"][0]
        assert users[None]["bindings"] == []
        assert [[one.session_id for one in call] for call in world.absorbed] == [["game"]]

    with_admin(work)


def test_a_session_that_is_not_there_is_named() -> None:
    async def work(world: AdminWorld) -> None:
        answer = await world.client.get("/v1/sessions/nobody")
        assert (answer.status_code, answer.json()) == (404, {"message": "no session nobody in the table"})

    with_admin(work)


def test_how_the_whole_relay_stands() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        world.source.started(now())
        await asyncio.sleep(7.0)
        world.source.failed("away")
        assert world.kernel is not None
        world.kernel.bindings_served = 2
        world.kernel.counts = {(Port.CLIENT, Verdict.FORWARDED): 5, (Port.SERVER, Verdict.FORWARDED): 4}
        shown = await world.get("/v1/status")
        assert shown["version"] == __version__
        assert (shown["sessions"], shown["active_sessions"]) == (1, 1)
        assert shown["users"] == {"authorized": 3, "host": 1, "player": 1}
        assert shown["source"] == {"age_seconds": 7.0, "problem": "away", "failures": 1}
        assert shown["ports"]["client"]["forwarded"]["datagrams"] == 1
        assert shown["ports"]["client"]["answered"]["datagrams"] == 1
        forwards = {"name": "eth0", "state": "forwards", "lost": 0, "problem": "", "way_out": ""}
        assert shown["fast_path"] == {"up": True, "bindings": 2, "forwarded": 9, "lost": 0, "interfaces": [forwards]}
        assert world.absorbed == [[]], "totals are brought up to date, and no session is"

    with_admin(work, kernel=FakeKernel())


def test_without_a_fast_path_and_a_source_that_was_never_read() -> None:
    async def work(world: AdminWorld) -> None:
        shown = await world.get("/v1/status")
        assert shown["fast_path"] is None
        assert shown["source"]["age_seconds"] is None

    with_admin(work)


def test_two_looks_are_at_the_same_run_of_the_program() -> None:
    async def work(world: AdminWorld) -> None:
        first, second = await world.get("/v1/status"), await world.get("/v1/status")
        assert first["instance"] == second["instance"]

    with_admin(work)


def test_a_drain_is_begun_looked_at_and_undone() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        assert (await world.get("/v1/drain"))["draining"] is False
        begun = (await world.client.post("/v1/drain")).json()
        assert begun == {"draining": True, "active_sessions": 1, "bound_users": 2, "control_plane_told": None}
        assert world.relay.engine.draining
        assert await world.get("/v1/drain") == begun
        assert (await world.client.delete("/v1/drain")).json()["draining"] is False
        assert not world.relay.engine.draining

    with_admin(work)


def test_an_upgrade_says_what_is_replaced_or_why_nothing_is() -> None:
    async def work(world: AdminWorld) -> None:
        answer = await world.client.post("/v1/upgrade")
        assert (answer.status_code, answer.json()["version"]) == (200, __version__)
        world.why_no_upgrade = "it drains"
        answer = await world.client.post("/v1/upgrade")
        assert (answer.status_code, answer.json()) == (409, {"message": "it drains"})
        assert world.upgrades == 2

    with_admin(work)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/drain"), ("DELETE", "/v1/drain"), ("POST", "/v1/upgrade")])
def test_a_page_in_a_browser_changes_nothing(method: str, path: str) -> None:
    async def work(world: AdminWorld) -> None:
        answer = await world.client.request(method, path, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert not world.relay.engine.draining
        assert world.upgrades == 0

    with_admin(work)


def test_a_defect_is_logged_and_answered_in_one_sentence() -> None:
    async def work(world: AdminWorld) -> None:
        world.source = None  # type: ignore[assignment]  # a defect
        world.drain._source = None  # type: ignore[assignment]
        with capture_logs() as logs:
            answer = await world.client.get("/v1/drain")
        assert answer.status_code == 500
        assert "log says why" in answer.json()["message"]
        assert [line["path"] for line in logs] == ["/v1/drain"]

    with_admin(work)


# A capture ---------------------------------------------------------------------------------------------------


async def begin_watch(world: AdminWorld, session_id: str = "game") -> httpx.Response:
    return await world.client.post(f"/v1/sessions/{session_id}/watch")


def test_a_watched_session_goes_through_the_engine_for_five_seconds() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        session = world.relay.table.sessions["game"]
        shown = (await begin_watch(world)).json()
        assert session in world.relay.table.watched
        assert (shown["server_port"], shown["client_port"]) == (32000, 32001)
        assert shown["token_ends_with"] == SESSION % 1000
        assert (shown["fast_path"], shown["over"]) == (False, False)
        assert {(peer["port"], peer["ip"], peer["udp_port"]) for peer in shown["peers"]} == {
            ("server", "198.51.100.1", 7777),
            ("client", *ALICE_AT),
        }
        await asyncio.sleep(4.9)
        assert session in world.relay.table.watched
        await begin_watch(world)
        await asyncio.sleep(4.9)
        assert session in world.relay.table.watched, "asked again in time"
        await asyncio.sleep(0.2)
        assert session not in world.relay.table.watched, "a capture that was killed leaves nothing behind"

    with_admin(work)


def test_a_watch_is_ended_before_its_time_and_once_more_does_no_harm() -> None:
    async def work(world: AdminWorld) -> None:
        await begin_watch(world)
        for _ in range(2):
            assert (await world.client.delete("/v1/sessions/game/watch")).status_code == 204
            assert not world.relay.table.watched

    with_admin(work)


def test_those_who_were_refused_and_those_who_left_belong_to_it_too() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        world.relay.player_pings(user=4711, source=("192.0.2.66", 6666))
        world.relay.now += 100.0
        world.relay.expire()
        peers = (await begin_watch(world)).json()["peers"]
        assert {peer["ip"] for peer in peers} == {"198.51.100.1", ALICE_AT[0], "192.0.2.66"}

    with_admin(work)


def test_one_that_ends_while_it_is_watched_is_over() -> None:
    async def work(world: AdminWorld) -> None:
        await begin_watch(world)
        world.relay.apply()
        answer = await begin_watch(world)
        assert (answer.status_code, answer.json()["over"]) == (200, True)
        await asyncio.sleep(6.0)
        assert (await begin_watch(world)).status_code == 404

    with_admin(work)


def test_one_that_is_not_there_cannot_be_watched() -> None:
    async def work(world: AdminWorld) -> None:
        assert (await begin_watch(world, "nobody")).status_code == 404

    with_admin(work)


# Metrics -----------------------------------------------------------------------------------------------------


def test_metrics_are_in_the_text_format_and_bring_up_to_date_what_they_show() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        answer = await world.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'verdict="forwarded"' in answer.text
        assert world.absorbed == [[]]

    with_admin(work, limits=Limits())


def test_host_is_a_role_and_no_token() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        assert str(HOST) not in (await world.client.get("/v1/sessions/game")).text.replace(f"…{HOST % 1000:03}", "")

    with_admin(work)
