"""What the control plane does on its own, on a clock turned by hand."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from relayd.controlplane import service
from relayd.controlplane.models import CreateRequest, Heartbeat
from relayd.controlplane.service import ControlPlane
from relayd.controlplane.sqlite import SqliteStore
from relayd.controlplane.webhook import Webhooks

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
ONE_USER = CreateRequest.model_validate({"users": ["1.1.1.1"]})


class Running:
    """A control plane without HTTP whose tasks look every few milliseconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = SqliteStore(":memory:")
        self.webhooks = Webhooks(self.store, "secret", allow_private=True, clock=lambda: self.now)
        self.plane = ControlPlane(self.store, self.webhooks, lambda: self.now)

    async def status(self, session_id: str) -> str:
        return (await self.plane.get(session_id)).status

    async def until(self, probe: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(5):
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
        delta = await plane.node_sessions("n", before.revision, newest.epoch)
        assert (delta.removed, delta.sessions, delta.revision) == ([made], [], back.revision)

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
