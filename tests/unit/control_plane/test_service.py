"""What the control plane does on its own, on a clock turned by hand."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from sqlalchemy import Connection
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError

from relayd.control_plane import background, heartbeat_log, service
from relayd.control_plane.errors import StoreUnavailableError
from relayd.control_plane.models import CreateRequest
from relayd.control_plane.node_models import FleetRelays, Heartbeat
from relayd.control_plane.render import session_fields
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.store.contract import Delivery
from relayd.control_plane.store.sqlite import SqliteStore
from relayd.control_plane.webhooks import delivery
from relayd.control_plane.webhooks.delivery import Webhooks
from tests.integration.waiting import PATIENCE_SECONDS

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
ONE_USER = CreateRequest.model_validate({"users": ["1.1.1.1"]})


class Running:
    """A control plane without HTTP whose tasks look every few milliseconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = SqliteStore(":memory:")
        self.webhooks = Webhooks(self.store, "secret", allow_private=True, clock=lambda: self.now)
        self.plane = ControlPlane(self.store, self.webhooks, clock=lambda: self.now)

    async def status(self, session_id: str) -> str:
        return (await self.plane.get(session_id)).status

    async def until(self, probe: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await probe():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)


def run(work: Callable[[Running], Awaitable[None]]) -> None:
    async def started() -> None:
        running = Running()
        await running.plane.start()
        try:
            await work(running)
        finally:
            await running.plane.stop()

    asyncio.run(started())


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDY_INTERVAL", "UNTAKEN_INTERVAL", "RELAYS_BACK_WITHIN"):
        monkeypatch.setattr(service, name, 0.01)
    monkeypatch.setattr(background, "PAUSE", 0.01)
    monkeypatch.setattr(delivery, "STORE_RETRY", 0.01)


def failing_at_first(work: Callable[..., Awaitable[object]], times: int) -> Callable[..., Awaitable[object]]:
    left = iter(range(times))

    async def flawed(*arguments: object) -> object:
        if next(left, None) is not None:
            raise RuntimeError("nobody reckoned with this")
        return await work(*arguments)

    return flawed


class BrokenLog:
    """A log whose reader is gone."""

    def msg(self, _: str) -> None:
        raise BrokenPipeError

    debug = info = warning = error = critical = msg


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(logger_factory=BrokenLog, cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


def test_a_session_whose_relay_dies_before_it_took_it_fails_after_30_s() -> None:
    async def work(running: Running) -> None:
        plane = running.plane
        newest = await plane.heartbeat("n", BEAT)
        made = (await plane.create(ONE_USER)).session_id
        running.now += 29
        await asyncio.sleep(0.1)
        assert await running.status(made) == "Initializing"
        before = plane.newest("n")
        running.now += 2

        async def failed() -> bool:
            return await running.status(made) == "Error"

        await running.until(failed)
        assert plane.newest("n").revision > before.revision, "else the relay would not ask what changed"
        back = await plane.heartbeat("n", BEAT.model_copy(update={"epoch": newest.epoch}))
        delta = await plane.node_sessions("n", since=before.revision, epoch=newest.epoch)
        assert (delta.removed, delta.sessions, delta.revision) == ([made], [], back.revision)

    run(work)


def test_the_backend_of_a_session_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []

    async def call(delivery: Delivery) -> int:
        told.append(json.loads(delivery.body))
        return 204

    async def work(running: Running) -> None:
        monkeypatch.setattr(running.webhooks, "_call", call)
        wanted = ONE_USER.model_copy(update={"webhook_url": "http://a.example/"})
        unplaced = await running.plane.create(wanted)
        await running.plane.heartbeat("n", BEAT)
        untaken = await running.plane.create(wanted)
        await running.plane.create(ONE_USER)  # nobody to tell
        running.now += 31

        async def both() -> bool:
            return len(told) == 2 and not await running.store.upcoming(1)

        await running.until(both)
        assert [one["session_id"] for one in told] == [unplaced.session_id, untaken.session_id]
        for session_id, one in zip((unplaced.session_id, untaken.session_id), told, strict=True):
            assert one == session_fields(await running.plane.get(session_id))
            assert (one["status"], one["ready"], bool(one["error"])) == ("Error", False, True)

    run(work)


def test_a_session_that_waits_for_a_relay_that_is_heard_goes_on_waiting() -> None:
    async def work(running: Running) -> None:
        await running.plane.heartbeat("n", BEAT)
        made = (await running.plane.create(ONE_USER)).session_id
        for _ in range(10):
            running.now += 9
            await running.plane.heartbeat("n", BEAT)
            await asyncio.sleep(0.02)
        assert await running.status(made) == "Initializing"

    run(work)


def test_after_a_start_relays_have_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RELAYS_BACK_WITHIN", 3600)

    async def work(running: Running) -> None:
        await running.plane.heartbeat("n", BEAT)
        made = (await running.plane.create(ONE_USER)).session_id
        running.now += 1000
        await asyncio.sleep(0.1)
        assert await running.status(made) == "Initializing"

    run(work)


async def fails_untaken(running: Running) -> None:
    running.now += 11
    await running.plane.heartbeat("n", BEAT.model_copy(update={"ip": "203.0.113.9"}))
    made = (await running.plane.create(ONE_USER)).session_id
    running.now += 31

    async def failed() -> bool:
        return await running.status(made) == "Error"

    await running.until(failed)


async def calls_webhooks(running: Running, monkeypatch: pytest.MonkeyPatch, calls: list[object]) -> None:
    """Until the outbox is empty: the first call fails as nobody reckoned with, the second is answered."""

    async def call(delivery: object) -> int:
        calls.append(delivery)
        if len(calls) == 1:
            raise RuntimeError("nobody reckoned with this")
        return 204

    monkeypatch.setattr(running.webhooks, "_call", call)
    newest = await running.plane.heartbeat("n", BEAT)
    await running.plane.create(ONE_USER.model_copy(update={"webhook_url": "http://a.example/"}))
    revision = running.plane.newest("n").revision
    applied = BEAT.model_copy(update={"epoch": newest.epoch, "revision": revision})
    await running.plane.heartbeat("n", applied)

    async def empty() -> bool:
        running.now += 10
        running.webhooks.wake()
        return bool(calls) and not await running.store.upcoming(1)

    await running.until(empty)


def test_tasks_outlive_failures_that_nobody_reckoned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(running: Running) -> None:
        for name in ("tidy", "fail_untaken", "upcoming"):
            monkeypatch.setattr(running.store, name, failing_at_first(getattr(running.store, name), 2))
        calls: list[object] = []
        await calls_webhooks(running, monkeypatch, calls)
        assert len(calls) == 2
        await fails_untaken(running)
        assert not any(task.done() for task in running.plane._tasks)

    with structlog.testing.capture_logs() as logs:
        run(work)
    for event in ("webhooks failed", "tidying failed", "failing untaken sessions failed", "webhook failed"):
        assert any(one["event"] == event and "exc_info" in one for one in logs), event


def test_tasks_outlive_a_log_that_cannot_be_written(broken_log: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(running: Running) -> None:
        with pytest.raises(BrokenPipeError):
            delivery.log.info("anything")
        # What is asked for is logged too; here it is the tasks that matter.
        for module in (service, heartbeat_log):
            monkeypatch.setattr(module, "log", SimpleNamespace(info=lambda *_, **__: None))
        calls: list[object] = []
        await calls_webhooks(running, monkeypatch, calls)
        assert len(calls) == 2, "each call made once, though nothing could be logged"
        await fails_untaken(running)
        assert not any(task.done() for task in running.plane._tasks)

    run(work)


def test_the_store_outlives_failures_that_nobody_reckoned_with(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def commit(_: Connection) -> None:
        if failures:
            raise failures.pop()

    async def work() -> None:
        store = SqliteStore(str(tmp_path / "x.sqlite3"))
        listen(store._database._writer._connection.engine, "commit", commit)
        try:
            for failure in (MemoryError(), OSError(), OperationalError("", {}, Exception("x")), RuntimeError("x")):
                failures.append(failure)
                with pytest.raises(StoreUnavailableError):
                    await store.heartbeat("n", BEAT, 0)
                assert await store.nodes() == [], "nothing of it stays"
            await store.heartbeat("n", BEAT, 0)
            assert len(await store.nodes()) == 1
        finally:
            await store.close()

    asyncio.run(work())


def test_relays_are_told_where_the_fleet_sends_from_when_that_is_news_and_when_they_ask() -> None:
    async def work(running: Running) -> None:
        plane = running.plane
        asks = BEAT.model_copy(update={"fleet": "none"})
        assert (await plane.heartbeat("n", BEAT)).fleet is None, "an older relay does not ask"
        alone = (await plane.heartbeat("n", asks)).fleet
        assert alone is not None
        knows = BEAT.model_copy(update={"fleet": alone.digest})
        assert (await plane.heartbeat("n", knows)).fleet is None
        await plane.heartbeat("m", BEAT.model_copy(update={"ip": "203.0.113.9", "own_ports": [5]}))
        both = (await plane.heartbeat("n", knows)).fleet
        assert both is not None
        assert [(one.addresses, one.ports) for one in both.relays] == [
            (["203.0.113.9"], [1, 2, 5]),
            (["203.0.113.7"], [1, 2]),
        ]

    run(work)


def test_where_relays_send_from_is_known_over_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite3")

    async def told() -> FleetRelays | None:
        store = SqliteStore(path)
        plane = ControlPlane(store, Webhooks(store, "secret", allow_private=True))
        await plane.start()
        try:
            if "n" not in [one.node_id for one in await store.nodes()]:
                said = {"own_addresses": ["10.0.0.7"], "own_ports": [32000, 32001]}
                await plane.heartbeat("n", BEAT.model_copy(update=said))
            return (await plane.heartbeat("m", BEAT.model_copy(update={"fleet": "none"}))).fleet
        finally:
            await plane.stop()

    assert asyncio.run(told()) == asyncio.run(told())
