"""The list of sessions, read by pages while others of them are deleted."""

from typing import Any

import pytest

from tests.integration.control_plane.process import FakeRelay, Server

SESSIONS = "/v1/relays/sessions"
LIMIT = 7
MANY = 100


def page(server: Server, number: int, limit: int = LIMIT) -> dict[str, Any]:
    answer = server.client.get(SESSIONS, params={"page": number, "limit": limit})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def ids(shown: dict[str, Any]) -> list[str]:
    return [session["session_id"] for session in shown["sessions"]]


@pytest.fixture
def listed(server: Server) -> list[str]:
    FakeRelay(server).beat()
    return [server.create()["session_id"] for _ in range(MANY)]


class Reader:
    """Reads page by page."""

    def __init__(self, server: Server, by: str) -> None:
        self.server, self.by = server, by
        self.number = 1
        self.seen: list[str] = []
        self.over = False

    def read(self) -> list[str]:
        shown = page(self.server, self.number)
        told = shown["pagination"]
        self.seen += ids(shown)
        pages = told["paginator"]["num_pages"]
        assert told["number"] == self.number
        assert (told["has_next"], told["next_page_number"]) == (
            self.number < pages,
            self.number + 1 if self.number < pages else None,
        )
        self.over = {
            "next_page_number": told["next_page_number"] is None,
            "num_pages": self.number >= pages,
            "an empty page": not shown["sessions"],
        }[self.by]
        self.number += 1
        return ids(shown)


@pytest.mark.parametrize("by", ["next_page_number", "num_pages", "an empty page"])
def test_none_is_left_out_while_older_ones_are_deleted(server: Server, listed: list[str], by: str) -> None:
    reader, deleted = Reader(server, by), set()
    while not reader.over:
        for session_id in reader.read()[:4]:
            server.delete({"session_id": session_id})
            deleted.add(session_id)
    assert [one for one in listed if one not in reader.seen] == []
    assert reader.seen == listed, "and none comes twice"
    assert len(deleted) > MANY // 3
    assert ids(page(server, 1, 1000)) == [one for one in listed if one not in deleted]


def test_a_reader_that_begins_anew_sees_what_is_there_then(server: Server, listed: list[str]) -> None:
    for _ in range(3):
        reader = Reader(server, "next_page_number")
        while not reader.over:
            for session_id in reader.read()[:2]:
                server.delete({"session_id": session_id})
        assert reader.seen == [one for one in listed if one in reader.seen]
        assert len(reader.seen) == len(set(reader.seen))
        listed = ids(page(server, 1, 1000))
    reader = Reader(server, "next_page_number")
    while not reader.over:
        reader.read()
    assert reader.seen == listed


def test_readers_that_share_a_key_leave_none_out_either(server: Server, listed: list[str]) -> None:
    first, second = Reader(server, "next_page_number"), Reader(server, "next_page_number")
    deleted: set[str] = set()
    while not (first.over and second.over):
        for reader in (first, second):
            if not reader.over:
                for session_id in reader.read()[:3]:
                    if session_id not in deleted:
                        server.delete({"session_id": session_id})
                        deleted.add(session_id)
    lived = set(listed) - deleted
    assert lived <= set(first.seen)
    assert lived <= set(second.seen)


def test_a_page_may_be_asked_for_again(server: Server, listed: list[str]) -> None:
    assert ids(page(server, 1)) == listed[:LIMIT]
    assert ids(page(server, 2)) == listed[LIMIT : 2 * LIMIT]
    for session_id in listed[:LIMIT]:
        server.delete({"session_id": session_id})
    assert ids(page(server, 2)) == listed[LIMIT : 2 * LIMIT]
    assert ids(page(server, 3)) == listed[2 * LIMIT : 3 * LIMIT]


def test_a_page_in_the_middle_is_counted_from_the_front(server: Server, listed: list[str]) -> None:
    assert ids(page(server, 5)) == listed[4 * LIMIT : 5 * LIMIT]
    assert ids(page(server, 3, 9)) == listed[18:27]
    assert ids(page(server, 1000)) == []
