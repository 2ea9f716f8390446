"""All links to a control plane keep the same promises: over HTTP, in one process, and that of the tests in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import httpx
import pytest

from relayd.control_plane.models import CreateRequest
from relayd.control_plane.server import open_control_plane
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.usage_models import UsageQuery
from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.core.usage import Counts, Kind, UsageBatch, UsageRecord
from relayd.session_source.control_plane.link import Link, LinkError, Report, Version
from relayd.session_source.control_plane.node_api import NodeApi
from relayd.session_source.control_plane.requests import HttpClient
from relayd.session_source.embedded import EmbeddedLink
from relayd.settings import ApiSettings, RelaySettings
from tests.support import links

RELAY = RelaySettings(id="paris", public_ip="203.0.113.7")
LOAD = Load(0, False)
KEY = "a key that has every scope"


class World(Protocol):
    """A control plane, and a relay's way to it."""

    link: Link

    async def create(self) -> str:
        """A session of one user; gives its id."""
        ...

    async def delete(self, session_id: str) -> None: ...

    async def used(self) -> dict[str, Counts]:
        """What it was told, by session."""
        ...


class InMemory:
    def __init__(self) -> None:
        self._fake = links.FakeLink(page_sessions=500)
        self.link: Link = self._fake
        self._made = 0

    async def create(self) -> str:
        self._made += 1
        spec = links.session(self._made, users=1)
        self._fake.put(spec)
        return spec.session_id

    async def delete(self, session_id: str) -> None:
        self._fake.remove(session_id)

    async def used(self) -> dict[str, Counts]:
        return {record.session_id: record.total for batch in self._fake.batches for record in batch.records}


class Real:
    def __init__(self, plane: ControlPlane, link: Link) -> None:
        self.link = link
        self._plane = plane

    async def create(self) -> str:
        return (await self._plane.create(CreateRequest.model_validate({"users": ["1.1.1.1"]}))).session_id

    async def delete(self, session_id: str) -> None:
        await self._plane.delete(session_id)

    async def used(self) -> dict[str, Counts]:
        return {one.session_id: one.counts for one in await self._plane.usage(UsageQuery())}


@contextlib.asynccontextmanager
async def in_memory() -> AsyncIterator[World]:
    yield InMemory()


@contextlib.asynccontextmanager
async def real(over_http: bool) -> AsyncIterator[World]:
    async with open_control_plane(ApiSettings(database=":memory:"), extra_key=KEY) as (plane, app):
        link: Link = EmbeddedLink(plane, RELAY, Limits())
        if over_http:
            client = HttpClient("http://cp", lambda: KEY, 5.0, transport=httpx.ASGITransport(app=app))
            link = NodeApi(client, RELAY, Limits())
        try:
            yield Real(plane, link)
        finally:
            await link.close()


Make = Callable[[], contextlib.AbstractAsyncContextManager[World]]


@pytest.fixture(params=["in memory", "in one process", "over HTTP"])
def make(request: pytest.FixtureRequest) -> Make:
    makes: dict[str, Make] = {
        "in memory": in_memory,
        "in one process": lambda: real(False),
        "over HTTP": lambda: real(True),
    }
    return makes[request.param]


async def read(link: Link, applied: Version | None) -> tuple[bool, set[str], set[str], Version | None]:
    full, upserts, removals, version = False, set(), set(), None
    async for part in link.read(applied):
        full, version = part.full, part.version
        upserts |= {spec.session_id for spec in part.upserts}
        removals |= set(part.removals)
    return full, upserts, removals, version


async def beat(link: Link, applied: Version | None, wait_seconds: float = 0.0, ended: tuple[str, ...] = ()) -> Version:
    news = await link.heartbeat(Report(applied, LOAD, ended), wait_seconds)
    assert news is not None
    return news.version


def test_all_is_read_by_whoever_has_nothing_and_what_changed_by_whoever_has_something(make: Make) -> None:
    async def work() -> None:
        async with make() as world:
            before = await beat(world.link, None)
            first, second = await world.create(), await world.create()
            newest = await beat(world.link, before)
            assert (newest.epoch, newest.revision > before.revision) == (before.epoch, True)
            assert await read(world.link, None) == (True, {first, second}, set(), newest)
            third = await world.create()
            await world.delete(first)
            full, upserts, removals, version = await read(world.link, newest)
            assert (full, upserts, removals) == (False, {third}, {first})
            assert version == await beat(world.link, newest)

    asyncio.run(work())


def test_another_history_is_read_whole(make: Make) -> None:
    async def work() -> None:
        async with make() as world:
            await beat(world.link, None)
            made = await world.create()
            full, upserts, _, _ = await read(world.link, Version("of a control plane before", 10**6))
            assert (full, upserts) == (True, {made})

    asyncio.run(work())


def test_the_answer_is_held_back_until_there_is_something(make: Make) -> None:
    async def work() -> None:
        async with make() as world:
            await beat(world.link, None)
            await world.create()
            applied = await beat(world.link, None)
            await read(world.link, None)
            applied = await beat(world.link, applied)
            held = asyncio.create_task(beat(world.link, applied, 30.0))
            await asyncio.sleep(0.05)
            assert not held.done()
            await world.create()
            assert (await asyncio.wait_for(held, 20.0)).revision > applied.revision

    asyncio.run(work())


def test_it_is_not_held_back_from_whoever_lacks_something(make: Make) -> None:
    async def work() -> None:
        async with make() as world:
            applied = await beat(world.link, None)
            await world.create()
            assert await asyncio.wait_for(beat(world.link, applied, 30.0), 20.0) != applied

    asyncio.run(work())


def test_usage_is_taken(make: Make) -> None:
    async def work() -> None:
        async with make() as world:
            await beat(world.link, None)
            counts = Counts(1, 100, 2, 300)
            record = UsageRecord(1, "span", "game", Kind.INTERIM, None, 1.0, 1.0, 2.0, counts, counts)
            for _ in range(2):
                await world.link.take_usage(UsageBatch("stream", (record,)))
            assert await world.used() == {"game": counts}, "once, however often it comes"

    asyncio.run(work())


@pytest.mark.parametrize("over_http", [False, True])
def test_a_control_plane_that_is_stopped_is_a_failure_of_the_link(over_http: bool) -> None:
    async def work() -> None:
        async with real(over_http) as world:
            assert isinstance(world, Real)
            await beat(world.link, None)
            await world._plane.stop()
            with pytest.raises(LinkError):
                await beat(world.link, None)
            with pytest.raises(LinkError):
                await read(world.link, None)
            with pytest.raises(LinkError):
                await world.link.take_usage(UsageBatch("stream", ()))

    asyncio.run(work())


@pytest.mark.parametrize("over_http", [False, True])
def test_a_relay_that_was_never_heard_has_no_sessions_to_read(over_http: bool) -> None:
    async def work() -> None:
        async with real(over_http) as world:
            with pytest.raises(LinkError):
                await read(world.link, None)

    asyncio.run(work())
