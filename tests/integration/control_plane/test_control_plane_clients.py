"""What real clients of the API need of it: generated ones, engines' own, samples of games."""

import itertools
from typing import Any

import pytest

from tests.integration.control_plane.process import FakeRelay, Made, Server

INT32_MAX = 2**31 - 1
USERS = [f"198.51.100.{number}" for number in range(8)]


def tokens_of(server: Server, sessions: int) -> list[int]:
    """The tokens of so many sessions, of users who were there at the beginning and of one who came later."""
    relay = FakeRelay(server)
    relay.beat()
    made = [server.create(*USERS) for _ in range(sessions)]
    for session in made:
        body = {"session_id": session["session_id"], "user_ip": "203.0.113.200"}
        assert server.client.post("/v1/relays/sessions:authorize-user", json=body).status_code == 200
    relay.sync()
    shown: list[dict[str, Any]] = [server.get(session) for session in made]
    users = itertools.chain.from_iterable(session["session_users"] for session in shown)
    return [one["authorization_token"] for one in itertools.chain(shown, users)]


@pytest.mark.parametrize("limits", [None, 31])
def test_tokens_are_read_by_clients_that_know_signed_32_bit_numbers(made: Made, limits: int | None) -> None:
    server = made()
    with server.config.open("a") as config:
        config.write("" if limits is None else f"[limits]\ntoken_bits = {limits}\n")
    server.start()
    tokens = tokens_of(server, 50)
    assert len(tokens) == 50 * 10
    assert min(tokens) >= 1
    assert max(tokens) <= INT32_MAX, "the Go client and the Rust crate of the contract read them as int32"


def test_tokens_of_32_bits_are_drawn_where_that_is_wanted(made: Made) -> None:
    server = made()
    with server.config.open("a") as config:
        config.write("[limits]\ntoken_bits = 32\n")
    server.start()
    assert max(tokens_of(server, 50)) > INT32_MAX  # by chance not: once in 2^500


@pytest.mark.parametrize("bits", [30, 33, "none"])
def test_another_number_of_bits_is_refused(made: Made, bits: object) -> None:
    server = made()
    with server.config.open("a") as config:
        config.write(f"[limits]\ntoken_bits = {bits!r}\n")
    ended = server.command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1)
    assert "limits.token_bits" in ended.stderr
