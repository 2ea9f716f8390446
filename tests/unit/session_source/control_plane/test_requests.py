"""Requests to a control plane: whatever it answers, or does not, is one sentence."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from relayd.errors import ConfigurationError
from relayd.session_source.control_plane.link import LinkError
from relayd.session_source.control_plane.requests import Answer, HttpClient
from relayd.settings import read_secret
from tests.support.away import Away
from tests.support.virtual_loop import now, run

URL = "http://control-plane"
Handler = Callable[[httpx.Request], httpx.Response]


def ask(
    handler: Handler, key: Callable[[], str | None] = lambda: None, times: int = 1, accept: tuple[int, ...] = (200,)
) -> Answer:
    """Asks so often, and gives the last answer; failures before that do not count."""

    async def work() -> Answer:
        client = HttpClient(URL, key, 5.0, transport=httpx.MockTransport(handler))
        try:
            for _ in range(times - 1):
                try:
                    await client.request("GET", "/v1/x", accept=accept)
                except LinkError:
                    continue
            return await client.request("GET", "/v1/x", accept=accept)
        finally:
            await client.close()

    return run(work())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("-1", 0.0), ("1e9", 300.0), ("inf", 300.0), ("nan", None), ("soon", None), ("", None)],
)
def test_how_long_the_control_plane_wants_to_be_left_alone(said: str, seconds: float | None) -> None:
    with pytest.raises(LinkError) as caught:
        ask(lambda _: httpx.Response(503, headers={"retry-after": said}))
    assert caught.value.retry_after_seconds == seconds


def test_a_date_to_come_back_at_is_understood_too() -> None:
    with pytest.raises(LinkError) as caught:
        ask(lambda _: httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    assert caught.value.retry_after_seconds == 0.0, "it is over"


def test_closing_it_closes_its_connections() -> None:
    class Transport(httpx.MockTransport):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    async def work() -> None:
        transport = Transport(lambda _: httpx.Response(200))
        await HttpClient(URL, lambda: None, 5.0, transport=transport).close()
        assert transport.closed

    run(work())


def test_an_answer_is_decoded() -> None:
    answer = ask(lambda _: httpx.Response(200, json={"fine": True}, headers={"etag": "x"}))
    assert (answer.status, answer.headers["etag"], answer.body) == (200, "x", {"fine": True})


def test_an_answer_without_a_body_has_none() -> None:
    assert ask(lambda _: httpx.Response(204), accept=(204,)).body is None


@pytest.mark.parametrize("body", [b"<html>\xff\x00 welcome to our portal", b"{", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(LinkError, match=f"{URL}/v1/x: the answer is not JSON"):
        ask(lambda _: httpx.Response(200, content=body))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"message": "sorry"}', "answered 500: sorry"),
        (b'{"message": 7}', "answered 500"),
        (b"[]", "answered 500"),
        (b"no json", "answered 500"),
        (b'{"message": "' + b"x" * 1000 + b'"}', "answered 500: " + "x" * 300),
    ],
)
def test_a_status_that_nobody_wants_is_named_with_what_is_said_to_it(body: bytes, shown: str) -> None:
    with pytest.raises(LinkError) as caught:
        ask(lambda _: httpx.Response(500, content=body))
    assert str(caught.value) == f"{URL}/v1/x: {shown}"


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.session_source.control_plane.requests._MOST_BYTES", 1 << 20)
    with pytest.raises(LinkError, match="longer than 1 MiB"):
        ask(lambda _: httpx.Response(200, content=bytes((1 << 20) + 1)))


@pytest.mark.parametrize(("held_back", "seconds"), [({"wait_seconds": 4.0}, 9.0), ({}, 5.0)])
def test_one_that_never_answers_is_waited_for_as_long_as_agreed(held_back: dict[str, Any], seconds: float) -> None:
    async def work() -> None:
        async def never(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(1e4)
            raise AssertionError

        client = HttpClient(URL, lambda: None, 5.0, transport=httpx.MockTransport(never))
        began = now()
        with pytest.raises(LinkError, match=f"no answer within {seconds:g} s"):
            await client.request("GET", "/", **held_back)
        assert now() - began == pytest.approx(seconds), "the time it may hold an answer back does not count"
        await client.close()

    run(work())


def test_a_broken_connection_is_said_in_words() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(LinkError, match=f"{URL}: connection refused"):
        ask(broken)


def test_a_broken_connection_without_words_is_named() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("")

    with pytest.raises(LinkError, match=f"{URL}: ReadError"):
        ask(broken)


def test_the_key_goes_with_each_request_and_is_never_shown() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"message": "no"})

    with pytest.raises(LinkError) as caught:
        ask(handler, lambda: "very-secret")
    assert seen == ["token very-secret"]
    assert "very-secret" not in str(caught.value)
    assert "source.token_file" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "key", "shown"),
    [(401, None, "wants a key"), (401, "k", "is not accepted"), (403, "k", "lacks a scope; a relay needs nodes:write")],
)
def test_what_is_wrong_with_the_key(status: int, key: str | None, shown: str) -> None:
    with pytest.raises(LinkError, match=shown):
        ask(lambda _: httpx.Response(status), lambda: key)


def test_a_key_that_was_exchanged_in_its_file_is_used_after_the_old_one_was_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")

    def handler(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] == "token new":
            return httpx.Response(200, json="in")
        file.write_text("new")
        return httpx.Response(401)

    assert ask(handler, lambda: read_secret(file, "source.token_file"), times=2).body == "in"


def test_a_key_file_that_is_gone_is_named() -> None:
    keys = iter(["old"])

    def read() -> str:
        for key in keys:
            return key
        raise ConfigurationError("source.token_file: /run/key: cannot be read")

    with pytest.raises(LinkError, match=r"source\.token_file: /run/key"):
        ask(lambda _: httpx.Response(401), read)


def test_a_key_file_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Away(monkeypatch)
    with pytest.raises(LinkError, match="the key is not accepted, and the file of another cannot be read in time"):
        ask(lambda _: httpx.Response(401), lambda: "old")
