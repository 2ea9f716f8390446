"""The link to a control plane that knows its relays: heartbeats, revisions, changes since a revision."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from relayd.core.desired import SessionSpec
from relayd.core.limits import Limits
from relayd.core.relay_session import RelaySession
from relayd.core.usage import UsageBatch, UsageRefusedError
from relayd.event_loop.pacing import in_slices
from relayd.session_source.control_plane.heartbeat import Heartbeats
from relayd.session_source.control_plane.link import FleetSockets, LinkError, News, Reading, Report, Version
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings

M = TypeVar("M", bound=BaseModel)

_PAGE_SESSIONS = 500
_NOT_KNOWN = (404, 405)
_REFUSED = (400, 413)


class NodesNotKnownError(LinkError):
    """The control plane knows nothing of relays: it serves the public API only."""


class _State(BaseModel):
    epoch: Annotated[str, Field(min_length=1)]
    revision: Annotated[int, Field(strict=True, ge=0)]


class _Sockets(BaseModel):
    addresses: list[str]
    ports: list[int]


class _Fleet(BaseModel):
    digest: Annotated[str, Field(min_length=1)]
    relays: list[_Sockets]

    def sockets(self) -> FleetSockets:
        """Every address of a relay with each of its ports."""
        found = {(ip, port) for one in self.relays for ip in one.addresses for port in one.ports}
        return FleetSockets(self.digest, frozenset(found))


class _News(_State):
    fleet: _Fleet | None = None
    went_back: bool = False
    taken_back: tuple[str, ...] = ()


class _Page(_State):
    full: bool
    sessions: list[Any]
    removed: list[str]
    next: str | None


class _Refusal(BaseModel):
    message: str


class NodeApi:
    """Heartbeats as this relay and reads its sessions."""

    def __init__(self, client: HttpClient, relay: RelaySettings, limits: Limits) -> None:
        self._client = client
        self._path = f"/v1/relays/nodes/{relay.id}"
        self._heartbeats = Heartbeats(relay, limits)

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:
        """See `Link.heartbeat`. Raises NodesNotKnownError where there are no heartbeats."""
        answer = await self._client.request(
            "PUT",
            self._path,
            params={"wait": wait_seconds},
            json=self._heartbeats.fields(report),
            wait_seconds=wait_seconds,
            accept=(200, *_NOT_KNOWN),
        )
        if answer.status in _NOT_KNOWN:
            raise NodesNotKnownError(f"{self._path}: this control plane takes no heartbeats")
        news = validated(_News, answer.body, self._path)
        return News(
            Version(news.epoch, news.revision),
            fleet=news.fleet.sockets() if news.fleet else None,
            went_back=news.went_back,
            taken_back=news.taken_back,
        )

    async def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        """See `Link.read`."""
        params: dict[str, str | int | float] = {"limit": _PAGE_SESSIONS}
        if applied is not None:
            params |= {"epoch": applied.epoch, "since": applied.revision}
        path = f"{self._path}/sessions"
        first: _Page | None = None
        asking = asyncio.create_task(self._client.request("GET", path, params=params))
        try:
            while True:
                page = validated(_Page, (await asking).body, path)
                if page.next is not None:
                    # The control plane gathers the next page while this one is taken apart.
                    asking = asyncio.create_task(
                        self._client.request("GET", path, params={**params, "after": page.next})
                    )
                first = first or page
                if (page.epoch, page.full) != (first.epoch, first.full):
                    raise LinkError(f"{path}: the control plane changed its history while it was read")
                # What changed while the pages were read has a later revision than the first and is read again.
                version = Version(first.epoch, first.revision)
                yield Reading(version, page.full, await specs_of(page.sessions, path), tuple(page.removed))
                if page.next is None:
                    return
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def take_usage(self, batch: UsageBatch) -> None:
        """See `Link.take_usage`."""
        body = {"stream": batch.stream, "records": [record.fields() for record in batch.records]}
        path = f"{self._path}/usage"
        answer = await self._client.request("POST", path, json=body, accept=(204, *_REFUSED))
        if answer.status in _REFUSED:
            # Something else between here and there does not answer like that.
            raise UsageRefusedError(validated(_Refusal, answer.body, path).message)

    async def close(self) -> None:
        """Closes connections."""
        await self._client.close()


async def specs_of(sessions: list[Any], path: str) -> tuple[SessionSpec, ...]:
    """Sessions of an answer, validated; those without tokens are left out.

    Raises:
        LinkError: one of them is not as the API says.
    """
    specs = []
    async for value in in_slices(sessions):
        spec = validated(RelaySession, value, path).spec()
        if spec is not None:
            specs.append(spec)
    return tuple(specs)


def validated(model: type[M], value: object, path: str) -> M:
    """A part of an answer as a model.

    Raises:
        LinkError: it is not as the API says; names the field, never a value, which might be a token.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "answer"
        raise LinkError(f"{path}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
