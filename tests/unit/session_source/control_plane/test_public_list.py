"""The public list as a source: whose sessions are taken, what is read again, and what is not believed gone at once."""

from typing import Any

import httpx
import pytest

from relayd.core.source_status import Load
from relayd.core.usage import UsageBatch, UsageUnwantedError
from relayd.session_source.control_plane.link import LinkError, Reading, Report, Version
from relayd.session_source.control_plane.public_list import PUBLIC_EPOCH, PublicList
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings
from tests.support.virtual_loop import run

RELAY = RelaySettings(public_ip="203.0.113.7", server_port=1, client_port=2)
PAGE_SESSIONS = 2


def listed(number: int, ip: str | None = "203.0.113.7", server: int = 1, client: int = 2) -> dict[str, Any]:
    """A session as the list shows it, linked to that relay."""
    ports = {name: {"port": port, "link": ""} for name, port in (("server", server), ("client", client))}
    return {
        "session_id": f"game-{number}",
        "authorization_token": 100 + number,
        "session_users": [{"authorization_token": 1}],
        "relay": None if ip is None else {"ip": ip, "host": "r", "ports": ports},
    }


class Listing:
    """Lists what it has, two a page, with an ETag for each page."""

    def __init__(self, *sessions: dict[str, Any], relay: RelaySettings = RELAY) -> None:
        self.sessions = list(sessions)
        self.asked: list[tuple[int, int]] = []
        """Page and status of each answer."""
        self.etags = True
        self.endless = False
        client = HttpClient("http://cp", lambda: None, 5.0, transport=httpx.MockTransport(self._answer))
        self.link = PublicList(client, relay)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        shown = self.sessions[(page - 1) * PAGE_SESSIONS : page * PAGE_SESSIONS]
        more = self.endless or len(self.sessions) > page * PAGE_SESSIONS
        tag = f'"{hash((repr(shown), more))}"'
        known = self.etags and request.headers.get("if-none-match") == tag
        self.asked.append((page, 304 if known else 200))
        if known:
            return httpx.Response(304)
        headers = {"etag": tag} if self.etags else {}
        return httpx.Response(200, json={"sessions": shown, "pagination": {"has_next": more}}, headers=headers)

    async def read(self, applied: Version | None = None) -> Reading | None:
        """What it finds; None for nothing new."""
        parts = [part async for part in self.link.read(applied)]
        assert len(parts) <= 1
        return parts[0] if parts else None

    async def ids(self, applied: Version | None = None) -> list[str]:
        reading = await self.read(applied)
        assert reading is not None
        assert reading.full
        return [spec.session_id for spec in reading.upserts]


def test_a_relay_behind_mapped_ports_is_known_by_those() -> None:
    relay = RELAY.model_copy(update={"public_server_port": 40000, "public_client_port": 40001})
    listing = Listing(listed(1), listed(2, server=40000, client=40001), relay=relay)
    assert run(listing.ids()) == ["game-2"]


def test_sessions_of_this_relay_are_picked_from_all_pages() -> None:
    listing = Listing(
        listed(1),
        listed(2, ip="203.0.113.8"),
        listed(3, server=9),
        listed(4, client=9),
        listed(5, ip=None),
        listed(6, ip="::ffff:203.0.113.7"),
        listed(7, ip="no address"),
    )
    assert run(listing.ids()) == ["game-1", "game-6"]
    assert [page for page, _ in listing.asked] == [1, 2, 3, 4]


def test_it_is_told_nothing_and_has_no_revisions() -> None:
    async def work() -> None:
        listing = Listing()
        assert await listing.link.heartbeat(Report(None, Load(1, False), ("a",)), 2.0) is None
        with pytest.raises(UsageUnwantedError):
            await listing.link.take_usage(UsageBatch("s", ()))
        assert listing.asked == []
        await listing.link.close()

    run(work())


def test_what_has_not_changed_is_neither_sent_nor_given_again() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2), listed(3))
        first = await listing.read()
        assert first is not None
        assert first.version == Version(PUBLIC_EPOCH, 1)
        assert await listing.read(first.version) is None
        assert listing.asked == [(1, 200), (2, 200), (1, 304), (2, 304)]

    run(work())


def test_whoever_does_not_have_it_gets_it_though_nothing_changed() -> None:
    async def work() -> None:
        listing = Listing(listed(1))
        await listing.read()
        assert await listing.ids(None) == ["game-1"]

    run(work())


def test_a_page_that_changed_is_read_and_the_others_are_not() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2), listed(3))
        first = await listing.read()
        listing.sessions[2] = listed(4)
        second = await listing.read(first and first.version)
        assert listing.asked[2:] == [(1, 304), (2, 200)]
        assert second is not None
        assert "game-4" in [spec.session_id for spec in second.upserts]
        assert second.version == Version(PUBLIC_EPOCH, 2)

    run(work())


def test_without_etags_everything_is_read_each_time() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2), listed(3))
        listing.etags = False
        first = await listing.read()
        await listing.read(first and first.version)
        assert [status for _, status in listing.asked] == [200] * 4

    run(work())


def test_one_that_is_missing_among_several_pages_is_gone_only_when_it_is_missing_twice() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2), listed(3))
        await listing.read()
        # Another was deleted while the pages were read: what moved to the page before was seen on neither.
        listing.sessions = [listed(1), listed(3), listed(4)]
        assert set(await listing.ids()) == {"game-1", "game-2", "game-3", "game-4"}
        assert set(await listing.ids()) == {"game-1", "game-3", "game-4"}

    run(work())


def test_one_that_is_missing_on_the_only_page_is_gone() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2))
        await listing.read()
        del listing.sessions[0]
        assert await listing.ids() == ["game-2"]

    run(work())


def test_one_on_two_pages_counts_once() -> None:
    listing = Listing(listed(1), listed(2), listed(2), listed(3))
    assert run(listing.ids()) == ["game-1", "game-2", "game-3"]


def test_pages_that_are_no_more_are_forgotten() -> None:
    async def work() -> None:
        listing = Listing(listed(1), listed(2), listed(3))
        await listing.read()
        listing.sessions = [listed(1)]
        await listing.read()
        await listing.read()
        listing.sessions = [listed(1), listed(2), listed(3)]
        listing.asked.clear()
        await listing.read()
        assert listing.asked == [(1, 200), (2, 200)], "as if it had never been there"

    run(work())


def test_a_list_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.session_source.control_plane.public_list._MOST_PAGES", 3)
    listing = Listing(listed(1))
    listing.endless = True
    with pytest.raises(LinkError, match="more than 3 pages"):
        run(listing.read())


def test_a_session_that_is_not_as_the_api_says_is_named() -> None:
    with pytest.raises(LinkError, match="/v1/relays/sessions: session_id: "):
        run(Listing(listed(1) | {"session_id": 7}).read())
