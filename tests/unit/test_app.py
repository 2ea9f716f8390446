"""A whole relay from its start to its end, in the process of the test, over the parts that are put together in it."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd import app
from relayd.app import Relay
from relayd.core.events import Event
from relayd.core.followers import Phase
from relayd.core.wire import State
from relayd.errors import ConfigurationError, UnavailableError
from relayd.forwarding.choose import Ports, open_ports
from relayd.settings import Settings
from relayd.supervision.service_manager import ServiceManager
from tests.support.away import Away
from tests.support.managers import ListeningManager
from tests.support.relays import BOB, BOB_AT, ONGOING, SESSION, spec
from tests.support.virtual_loop import now, run, turns, until
from tests.support.whole_relay import WholeRelay, with_relay

Work = Callable[[WholeRelay], Coroutine[Any, Any, None]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def started(work: Work, **options: Any) -> None:
        with_relay(tmp_path, monkeypatch, work, **options)

    return started


def test_a_game_from_the_first_datagram_to_what_an_operator_sees_of_it(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        assert await one.host_pings() is State.VALID
        assert await one.player_pings() is State.VALID
        (to_host,) = await one.player_sends(b"\x01to the host")
        assert to_host.endswith(b"to the host")
        (connection_id,) = one.relay.table.sessions["game"].players
        (to_player,) = await one.host_sends(connection_id, b"\x01to the player")
        assert to_player.endswith(b"to the player")
        status = await one.get("/v1/status")
        assert (status["ready"], status["active_sessions"]) == (True, 1)
        assert status["users"] == {"authorized": 3, "host": 1, "player": 1}
        shown = await one.get("/v1/sessions/game")
        assert (shown["to_host"]["datagrams"], shown["to_player"]["datagrams"]) == (1, 1)
        assert "relayd_datagrams_total" in (await one.admin.get("/metrics")).text
        assert (await one.admin.get("/readyz")).text == "ready\n"

    serve(work)


@pytest.mark.parametrize(
    ("merge", "release", "merged"), [("off", "6.1.0", False), ("auto", "6.1.0", True), ("auto", "7.1.4", False)]
)
def test_datagrams_are_merged_where_the_settings_and_the_kernel_let_them(
    serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch, merge: str, release: str, merged: bool
) -> None:
    asked: list[bool] = []

    def opened(**options: Any) -> Ports:
        asked.append(options["merge"])
        return open_ports(**options)

    async def work(one: WholeRelay) -> None:
        assert asked == [merged]

    monkeypatch.setattr(app, "open_ports", opened)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    serve(work, relay={"merge": merge})


def test_what_is_sent_while_the_queue_is_full_is_dropped_and_counted_and_the_next_one_goes(
    serve: Callable[..., None],
) -> None:
    async def work(one: WholeRelay) -> None:
        await one.host_pings()
        await one.player_pings()
        one.server.room = 0
        assert await one.player_sends() == []
        one.server.room = None
        assert len(await one.player_sends()) == 1
        ports = (await one.get("/v1/status"))["ports"]
        assert ports["client"]["send_queue_full"]["datagrams"] == 1

    serve(work)


def test_sessions_come_and_go_with_their_source(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        assert await one.player_pings() is State.VALID
        one.write(spec(), spec("other", SESSION + 1))
        await asyncio.sleep(1.5)
        assert await one.player_pings(source=BOB_AT, user=BOB, session=SESSION + 1) is State.VALID
        one.write(spec("other", SESSION + 1))
        await asyncio.sleep(1.5)
        assert await one.player_pings() is not State.VALID
        sessions = (await one.get("/v1/sessions"))["sessions"]
        assert [shown["session_id"] for shown in sessions] == ["other"]

    serve(work)


def test_a_part_that_cannot_follow_the_table_is_logged_and_the_game_goes_on(serve: Callable[..., None]) -> None:
    class Defective:
        def event(self, event: Event) -> None:
            raise LookupError("a defect")

    async def work(one: WholeRelay) -> None:
        one.relay.table.followers.subscribe(Phase.KERNEL, Defective())
        with capture_logs() as lines:
            assert await one.host_pings() is State.VALID
            assert await one.player_pings() is State.VALID
            assert len(await one.player_sends()) == 1
        logged = [line for line in lines if line["event"] == "a change of the table could not be followed"]
        assert [(line["log_level"], str(line["exc_info"])) for line in logged] == [("error", "a defect")] * 2
        assert one.relay.table.bound == [1, 1]

    serve(work)


def test_a_reload_reads_the_source_at_once(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        one.write(spec(), spec("other", SESSION + 1))
        one.relay.reload()
        await turns()
        assert set(one.relay.table.sessions) == {"game", "other"}

    serve(work)


def test_whoever_is_silent_leaves_and_an_empty_session_ends(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        await one.host_pings()
        await one.player_pings()
        await asyncio.sleep(35.0)
        assert (await one.get("/v1/status"))["active_sessions"] == 0
        await asyncio.sleep(70.0)
        assert one.relay.table.sessions == {}

    serve(work, limits={"user_timeout": 30.0, "session_idle_timeout": 60.0})


def test_usage_is_recorded_to_the_end(serve: Callable[..., None], tmp_path: Path) -> None:
    async def work(one: WholeRelay) -> None:
        await one.host_pings()
        await one.player_pings()
        for _ in range(5):
            await one.player_sends()
        await asyncio.sleep(70.0)
        assert "relayd_usage" in (await one.admin.get("/metrics")).text

    serve(work)
    journals = [path for path in (tmp_path / "state").iterdir() if path.name.startswith("usage")]
    assert any(b"game" in path.read_bytes() for path in journals)


# Start ------------------------------------------------------------------------------------------------------


def test_a_disk_that_hangs_holds_up_the_end_for_a_few_seconds(
    serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float] = []

    async def work(one: WholeRelay) -> None:
        await one.player_pings()
        await asyncio.sleep(2.0)
        Away(monkeypatch)
        began.append(now())
        one.relay.stop()
        await until(one.task.done)
        assert 5 <= now() - began[0] < 6

    with capture_logs() as logs:
        serve(work)
    assert "the usage journal does not take its last records: the disk hangs" in [line["event"] for line in logs]
    assert logs[-1]["event"] == "relay stopped"


def test_without_sessions_it_answers_that_it_is_not_ready_and_players_that_they_are_to_wait(
    serve: Callable[..., None],
) -> None:
    async def work(one: WholeRelay) -> None:
        answer = await one.admin.get("/readyz")
        assert answer.status_code == 503
        assert str(one.source_file) in answer.text
        assert await one.player_pings() is State.CHECKING
        one.write(spec())
        await asyncio.sleep(1.5)
        assert await one.player_pings() is State.VALID
        assert (await one.admin.get("/readyz")).status_code == 200

    serve(work, specs=None)


def test_whoever_was_bound_before_a_restart_plays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[int] = []

    async def first(one: WholeRelay) -> None:
        await one.host_pings()
        await one.player_pings()
        await one.player_sends()
        ids.extend(one.relay.table.sessions["game"].players)

    async def second(one: WholeRelay) -> None:
        assert list(one.relay.table.sessions["game"].players) == ids
        assert len(await one.player_sends()) == 1, "without a PING before"
        assert len(await one.host_sends(ids[0])) == 1

    with_relay(tmp_path, monkeypatch, first)
    with_relay(tmp_path, monkeypatch, second)


def test_a_certificate_that_cannot_be_used_ends_it_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        files = {"tls_certificate_file": tmp_path / "no", "tls_key_file": tmp_path / "nor"}
        one = WholeRelay(tmp_path, monkeypatch, admin=files)
        with pytest.raises(ConfigurationError, match=r"admin\.tls_certificate_file"):
            await one.relay.serve()
        assert not (tmp_path / "http").exists()
        for bound in one.sockets:
            bound.socket.close()

    run(work())


def test_a_taken_admin_port_closes_what_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise UnavailableError("TCP port 9464 is taken")

    async def work() -> None:
        one = WholeRelay(tmp_path, monkeypatch)
        monkeypatch.setattr("relayd.admin.listeners.listen", taken)
        with pytest.raises(UnavailableError):
            await one.relay.serve()
        assert [bound.socket.fileno() for bound in one.sockets] == [-1, -1]

    run(work())


def test_a_fast_path_that_is_required_and_not_there_closes_what_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one = WholeRelay(tmp_path, monkeypatch, fast_path={"mode": "require", "interfaces": []})
        with pytest.raises(UnavailableError, match=r"fast_path\.interfaces"):
            await one.relay.serve()
        assert [bound.socket.fileno() for bound in one.sockets] == [-1, -1]

    run(work())


def test_a_start_that_fails_leaves_state_and_journal_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        failed = []
        with capture_logs() as logs:
            for _ in range(2):
                failed.append(WholeRelay(tmp_path, monkeypatch, fast_path={"mode": "require", "interfaces": []}))
                with pytest.raises(UnavailableError, match=r"fast_path\.interfaces"):
                    await failed[-1].relay.serve()
                (tmp_path / "tcp" / "http").unlink()
        assert "another relayd is using it" not in str(logs)

    run(work())


def test_a_part_that_fails_ends_the_relay_with_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        one = WholeRelay(tmp_path, monkeypatch)

        async def fails() -> None:
            await asyncio.sleep(5.0)
            raise ZeroDivisionError

        monkeypatch.setattr(one.relay.owner, "expire_forever", fails)
        began = now()
        with pytest.raises(ZeroDivisionError):
            await one.relay.serve()
        assert now() - began == pytest.approx(5.0, abs=1.0)
        await one.admin.aclose()

    run(work())


def test_a_start_that_fails_is_told_to_whoever_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        one = WholeRelay(tmp_path, monkeypatch, fast_path={"mode": "require", "interfaces": []})
        serving = asyncio.create_task(one.relay.serve())
        with pytest.raises(UnavailableError):
            await one.relay.until_started(serving)

    run(work())


# End --------------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_at_once(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        await one.player_pings()
        began = now()
        one.relay.terminate()
        await until(one.task.done)
        assert now() - began < 5.0

    serve(work)


def test_sigterm_drains_first_if_the_settings_say_so_and_a_second_one_does_not_wait(
    serve: Callable[..., None],
) -> None:
    async def work(one: WholeRelay) -> None:
        await one.player_pings()
        one.relay.terminate()
        for _ in range(30):
            await asyncio.sleep(10.0)
            assert await one.player_pings() is State.VALID, "games that run play on"
        assert one.relay.engine.draining
        assert not one.task.done()
        one.relay.terminate()
        await until(one.task.done, 10.0)

    serve(work, drain={"on_sigterm": True})


def test_a_drain_ends_the_relay_when_nobody_plays_any_more(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        await one.player_pings()
        one.relay.terminate()
        await until(one.task.done, 60.0)

    serve(work, drain={"on_sigterm": True}, limits={"user_timeout": 30.0})


def test_a_drain_that_is_undone_ends_nothing(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        await one.player_pings()
        one.relay.terminate()
        await asyncio.sleep(1.0)
        await one.admin.delete("/v1/drain")
        await asyncio.sleep(100.0)
        assert not one.task.done()

    serve(work, drain={"on_sigterm": True})


def test_the_sockets_are_closed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[WholeRelay] = []

    async def work(one: WholeRelay) -> None:
        found.append(one)

    with_relay(tmp_path, monkeypatch, work)
    assert [bound.socket.fileno() for bound in found[0].sockets] == [-1, -1]


# Upgrade ----------------------------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What this process would be started again as."""
    script = tmp_path / "relayd"
    script.write_text("")
    monkeypatch.setattr(sys, "argv", [str(script)])
    return script


def test_an_upgrade_ends_it_for_a_successor(serve: Callable[..., None], program: Path) -> None:
    async def work(one: WholeRelay) -> None:
        answer = await one.admin.post("/v1/upgrade")
        assert answer.status_code == 200
        await until(one.task.done)
        assert one.relay.successor is not None

    serve(work, environment={"HOME": "/"})


def test_a_relay_that_drains_is_not_upgraded(serve: Callable[..., None], program: Path) -> None:
    async def work(one: WholeRelay) -> None:
        await one.admin.post("/v1/drain")
        answer = await one.admin.post("/v1/upgrade")
        assert (answer.status_code, "drain --undo" in answer.json()["message"]) == (409, True)
        assert not one.task.done()

    serve(work, environment={})


def test_one_that_is_part_of_something_else_is_not_upgraded(serve: Callable[..., None]) -> None:
    async def work(one: WholeRelay) -> None:
        assert "relayd dev" in (await one.admin.post("/v1/upgrade")).json()["message"]

    serve(work)


def test_a_program_that_is_gone_is_said_and_this_one_goes_on(serve: Callable[..., None], program: Path) -> None:
    async def work(one: WholeRelay) -> None:
        await asyncio.to_thread(program.unlink)
        message = (await one.admin.post("/v1/upgrade")).json()["message"]
        assert str(program) in message
        assert await one.player_pings() is State.VALID

    serve(work, environment={})


def test_sigterm_calls_an_upgrade_off(serve: Callable[..., None], program: Path) -> None:
    async def work(one: WholeRelay) -> None:
        assert one.relay.upgrade() == ""
        one.relay.terminate()
        await until(one.task.done)
        assert one.relay.successor is None

    serve(work, environment={})


def test_a_relay_that_was_told_to_stop_is_not_upgraded(serve: Callable[..., None], program: Path) -> None:
    """A request may still be under way by then."""

    async def work(one: WholeRelay) -> None:
        one.relay.terminate()
        assert "is stopping" in one.relay.upgrade()
        await until(one.task.done)
        assert one.relay.successor is None

    serve(work, environment={})


# As a service -----------------------------------------------------------------------------------------------


def test_a_service_manager_hears_of_its_whole_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        listening = ListeningManager(tmp_path)
        listening.read_along()
        manager = ServiceManager(listening.address, 20.0)
        monkeypatch.setattr("relayd.supervision.liveness.Probes", NoProbes)
        async with WholeRelay(tmp_path, monkeypatch, manager=manager).serving() as one:
            assert await one.host_pings() is State.VALID
            await asyncio.sleep(10.0)
            one.relay.reload()
            await asyncio.sleep(10.0)
        lines = listening.lines()
        order = ["FDSTORE=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
        assert [line for line in lines if line in order] == ["FDSTORE=1", *order]
        assert lines.count("WATCHDOG=1") >= 18
        manager.close()
        listening.close()

    run(work())


class NoProbes:
    """Sockets of a test are read."""

    def __init__(self, *_: object) -> None: ...

    def unread(self) -> list[object]:
        return []

    def close(self) -> None: ...


def test_no_token_is_in_any_line_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, host, player = 3_957_046_943, 2_947_710_588, 1_024_826_953
    specs = [spec("game", session, (host, player))]

    async def work(one: WholeRelay) -> None:
        await one.host_pings(host, session=session)
        await one.player_pings(player, session=session)
        await one.player_sends(ONGOING, player, session=session)
        await one.player_sends(ONGOING, 4711, session=session)
        await asyncio.sleep(130.0)

    with capture_logs() as logs:
        with_relay(tmp_path, monkeypatch, work, specs=specs)
    said = json.dumps(logs, default=str)
    for event in ("relay started", "user bound", "datagrams of the last minute", "relay stopped"):
        assert event in said
    assert not any(str(token) in said for token in (session, host, player))


def test_a_source_that_cannot_be_made_leaves_nothing_open(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(ConfigurationError):
            Relay(Settings.model_validate({"source": {"kind": "embedded"}}), admin_path=tmp_path / "http")

    run(work())
