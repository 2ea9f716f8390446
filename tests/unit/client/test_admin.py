"""Answers of the admin API, as they are written and read again."""

import json
from typing import Any

import httpx
import pytest

from relayd.admin.answers import Address, BoundAt, Count, Program, RelayStatus
from relayd.client.admin import AdminClient
from relayd.errors import FatalError, UnavailableError
from relayd.settings import AdminSettings


def asking(monkeypatch: pytest.MonkeyPatch, status: int, content: str) -> AdminClient:
    """A client of something that always answers this."""
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(status, text=content))
    return AdminClient(AdminSettings(bind="127.0.0.1:9464"))


BOUND: dict[str, Any] = {
    "port": "client",
    "address": Address(ip="192.0.2.1", port=1000),
    "bound_seconds": 1.5,
    "last_seen_seconds_ago": 0.0,
}


def test_what_is_not_known_of_a_binding_is_not_in_its_json() -> None:
    assert json.loads(BoundAt(**BOUND).to_json()) == BOUND | {"address": {"ip": "192.0.2.1", "port": 1000}}
    assert json.loads(BoundAt(**BOUND, connection_id=None).to_json())["connection_id"] is None


@pytest.mark.parametrize("one", [BoundAt(**BOUND), BoundAt(**BOUND, connection_id=7), Count(datagrams=1, bytes=2)])
def test_what_is_written_is_read_again(one: BoundAt | Count) -> None:
    again = type(one).model_validate_json(one.to_json())
    assert again == one
    assert again.fields() == json.loads(one.to_json()) == one.fields()


def test_a_relay_that_says_more_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    client = asking(monkeypatch, 200, '{"version": "9.9.9", "instance": "a", "of_tomorrow": 1}')
    assert client.upgrade() == Program(version="9.9.9", instance="a")


@pytest.mark.parametrize("content", ["<html>", "[]", "{}", '{"version": 1}', "null", '"text"'])
@pytest.mark.parametrize("status", [200, 404])
def test_what_is_no_relay_is_told(monkeypatch: pytest.MonkeyPatch, status: int, content: str) -> None:
    client = asking(monkeypatch, status, content)
    with pytest.raises(FatalError) as caught:
        client.status()
    if status == 200 or not content.startswith("{"):
        assert isinstance(caught.value, UnavailableError)
        assert str(caught.value) == "what answers on 127.0.0.1:9464 is no relay; is admin.bind right?"
    else:
        assert str(caught.value) == content


def test_why_there_is_no_answer_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    client = asking(monkeypatch, 404, '{"message": "no session a in the table"}')
    with pytest.raises(FatalError, match=r"^no session a in the table$"):
        client.session("a")


def test_a_status_names_its_program_first() -> None:
    assert list(RelayStatus.model_fields)[:2] == list(Program.model_fields)
