"""What user space writes for the program besides bindings, and what it reads of guesses: without a kernel."""

import struct
from typing import Any

import pytest

from relayd.core.guesses import Noted
from relayd.core.session import Session
from relayd.forwarding.kernel import address_book
from relayd.forwarding.kernel.address_book import AddressBook
from relayd.forwarding.kernel.guesses import NotedGuesses
from relayd.forwarding.kernel.layout import pack_ip
from tests.support.bpf_maps import PlayedMap, PlayedProgram


class Guesses:
    def __init__(self, left: tuple[int, ...] = (), authorized: int = 10_000) -> None:
        program = PlayedProgram(authorized)
        self.sessions, self.sources = program.map("guesses"), program.map("guess_sources")
        for token in left:
            self.sessions.update(token.to_bytes(4, "little"), bytes(16))
        sessions: Any = self.sessions
        sources: Any = self.sources
        self.noted = NotedGuesses(sessions, sources)

    def counted_for(self) -> list[int]:
        return [int.from_bytes(key, "little") for key in self.sessions.entries]

    def note(self, map_: PlayedMap, key: bytes, seconds: float) -> None:
        map_.update(key, int(seconds * 1e9).to_bytes(8, "little"))


def test_sessions_of_the_process_before_are_forgotten() -> None:
    assert Guesses(left=(5, 6)).counted_for() == []


def test_they_are_counted_from_the_next_flush_until_they_end() -> None:
    guesses = Guesses()
    guesses.noted.begin(7)
    guesses.noted.begin(8)
    assert guesses.counted_for() == []
    guesses.noted.end(8)
    guesses.noted.flush()
    guesses.noted.flush()
    assert guesses.counted_for() == [7]
    guesses.noted.end(7)
    assert guesses.counted_for() == []


def test_a_session_that_is_written_begins_with_none() -> None:
    guesses = Guesses()
    guesses.noted.begin(7)
    guesses.noted.flush()
    assert guesses.noted.noted("192.0.2.1", Session("game", 7, 0.0)) == Noted(0.0, 0.0, 0)


def test_very_many_are_written_before_the_loop_goes_on() -> None:
    guesses = Guesses()
    for token in range(1, 4096):
        guesses.noted.begin(token)
    assert guesses.counted_for() == []
    guesses.noted.begin(4096)
    assert len(guesses.counted_for()) == 4096


def test_where_there_is_no_room_nothing_is_noted_and_nothing_fails() -> None:
    guesses = Guesses(authorized=1)
    for token in (7, 8):
        guesses.noted.begin(token)
    guesses.noted.flush()
    assert len(guesses.counted_for()) == 1


@pytest.mark.parametrize(
    ("ip_address", "source"), [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::")]
)
def test_what_was_noted_of_a_source_and_in_a_session(ip_address: str, source: str) -> None:
    guesses = Guesses()
    session = Session("game", 7, 0.0)
    assert guesses.noted.noted(ip_address, session) == Noted(0.0, 0.0, 0)
    guesses.note(guesses.sources, pack_ip(source), 12.5)
    guesses.sessions.update((7).to_bytes(4, "little"), struct.pack("<QQ", 99_250_000_000, 4711))
    assert guesses.noted.noted(ip_address, session) == Noted(12.5, 99.25, 4711)
    assert guesses.noted.noted("192.0.2.77", Session("other", 8, 0.0)) == Noted(0.0, 0.0, 0)


def test_the_hosts_addresses_are_those_that_the_relay_is_bound_at(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {"192.0.2.1": "0.0.0.0", "192.0.2.7": "0.0.0.0", "2001:db8::1": "2001:db8::1"}
    monkeypatch.setattr(address_book, "reached_at", lambda _bind: dict(reached))
    addresses: Any = PlayedProgram().map("addresses")
    addresses.update(pack_ip("198.51.100.9"), (1).to_bytes(4, "little"))
    addresses.update(pack_ip("192.0.2.1"), (2).to_bytes(4, "little"))
    book = AddressBook(addresses, ["0.0.0.0", "2001:db8::1"], "203.0.113.9")
    book.refresh()

    def written() -> dict[bytes, int]:
        return {key: int.from_bytes(value, "little") for key, value in addresses.items()}

    at_a_nat = {pack_ip("203.0.113.9"): 0}
    expected = at_a_nat | {pack_ip("192.0.2.1"): 1, pack_ip("192.0.2.7"): 1, pack_ip("2001:db8::1"): 2}
    assert written() == expected
    del reached["192.0.2.7"]
    reached["192.0.2.8"] = "0.0.0.0"
    book.refresh()
    expected = at_a_nat | {pack_ip("192.0.2.1"): 1, pack_ip("192.0.2.8"): 1, pack_ip("2001:db8::1"): 2}
    assert written() == expected
