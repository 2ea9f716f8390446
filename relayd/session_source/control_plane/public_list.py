"""The link to a control plane that serves only the public API: lists all sessions and picks those of this relay."""

from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel

from relayd.core.desired import SessionSpec
from relayd.core.relay_session import RelaySession, canonical_ip
from relayd.core.usage import UsageBatch, UsageUnwantedError
from relayd.event_loop.pacing import in_slices
from relayd.session_source.control_plane.link import LinkError, News, Reading, Report, Version
from relayd.session_source.control_plane.node_api import validated
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings

_PATH = "/v1/relays/sessions"
PUBLIC_EPOCH = "public list"
"""Of readings that only this process has numbered."""
_PAGE_SESSIONS = 200
_MOST_PAGES = 10_000


class _Pagination(BaseModel):
    has_next: bool = False


class _List(BaseModel):
    sessions: list[Any]
    pagination: _Pagination = _Pagination()


class _Page:
    """A page as it was last read, for as long as the control plane says that it is still so."""

    def __init__(self, tag: str | None, specs: tuple[SessionSpec, ...], *, has_next: bool) -> None:
        self.tag = tag
        self.specs = specs
        self.has_next = has_next


class PublicList:
    """Reads the list of all sessions, page by page, and skips what has not changed by its ETag."""

    def __init__(self, client: HttpClient, relay: RelaySettings) -> None:
        self._client = client
        self._relay = relay
        self._pages: dict[int, _Page] = {}
        self._version = Version(PUBLIC_EPOCH, 0)
        self._last: dict[str, SessionSpec] = {}
        """What the last reading found."""
        self._doubtful: set[str] = set()
        """Sessions that it did not find any more, and that are kept until the next one."""

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:  # noqa: ARG002
        """Such a control plane cannot be told anything, and has no revisions."""
        return None

    async def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        """See `Link.read`: everything, or nothing if it is unchanged since ``applied``.

        Sessions that are created or deleted while the pages are read shift others from page to page. So one that
        stands on two pages counts once, and one that is missing from several pages is only gone if the next reading
        lacks it too.
        """
        found: dict[str, SessionSpec] = {}
        unchanged = True
        number = 0
        has_next = True
        while has_next:
            number += 1
            if number > _MOST_PAGES:
                raise LinkError(f"{_PATH}: more than {_MOST_PAGES} pages")
            page, was_known = await self._read_page(number)
            unchanged = unchanged and was_known
            found |= {spec.session_id: spec for spec in page.specs}
            has_next = page.has_next
        for surplus in [known for known in self._pages if known > number]:
            del self._pages[surplus]
        if unchanged and not self._doubtful and applied == self._version:
            return
        missing = {key: spec for key, spec in self._last.items() if key not in found} if number > 1 else {}
        kept = {key: spec for key, spec in missing.items() if key not in self._doubtful}
        self._doubtful = set(kept)
        self._last = found | kept
        self._version = Version(PUBLIC_EPOCH, self._version.revision + 1)
        yield Reading(self._version, True, tuple(self._last.values()), ())

    async def take_usage(self, batch: UsageBatch) -> None:  # noqa: ARG002
        """Such a control plane takes none."""
        raise UsageUnwantedError

    async def close(self) -> None:
        """Closes connections."""
        await self._client.close()

    async def _read_page(self, number: int) -> tuple[_Page, bool]:
        """A page, and whether it is as it was."""
        known = self._pages.get(number)
        headers = {"if-none-match": known.tag} if known and known.tag else {}
        answer = await self._client.request(
            "GET",
            _PATH,
            params={"page": number, "limit": _PAGE_SESSIONS},
            headers=headers,
            accept=(200, 304) if headers else (200,),
        )
        if known and answer.status == 304:
            return known, True
        listed = validated(_List, answer.body, _PATH)
        specs = []
        async for value in in_slices(listed.sessions):
            spec = self._own(validated(RelaySession, value, _PATH))
            if spec is not None:
                specs.append(spec)
        page = self._pages[number] = _Page(
            answer.headers.get("etag"), tuple(specs), has_next=listed.pagination.has_next
        )
        return page, False

    def _own(self, session: RelaySession) -> SessionSpec | None:
        """The session, if it is linked to this relay."""
        if session.relay is None:
            return None
        ports = session.relay.ports
        here = (self._relay.public_ip, *self._relay.named_ports)
        return session.spec() if (_canonical(session.relay.ip), ports.server.port, ports.client.port) == here else None


def _canonical(ip: str) -> str:
    try:
        return canonical_ip(ip)
    except ValueError:
        return ip
