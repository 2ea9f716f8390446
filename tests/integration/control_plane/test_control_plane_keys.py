"""What the key of one relay opens, and what it does not: attacks with a key that leaked."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.integration.control_plane.process import FakeRelay, Server

SESSIONS = "/v1/relays/sessions"
NODES = "/v1/relays/nodes"


class Fleet(NamedTuple):
    """Two relays, with a key for each, and a session at the second."""

    server: Server
    paris: FakeRelay
    london: FakeRelay
    key_of_paris: httpx.Client
    key_of_london: httpx.Client
    session: dict[str, Any]


def key_of(server: Server, relay: str) -> str:
    added = server.command("keys", "add", "--node", relay)
    assert (added.returncode, bool(re.fullmatch(r"rk_\w{12}_\S{43}\n", added.stdout))) == (0, True), added.stderr
    return added.stdout.strip()


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    paris = FakeRelay(server, "paris", ip="203.0.113.1")
    london = FakeRelay(server, "london", ip="203.0.113.2")
    london.beat()
    session = server.create()
    paris.beat()
    london.sync()
    with (
        server.with_key(key_of(server, "paris")) as key_of_paris,
        server.with_key(key_of(server, "london")) as key_of_london,
    ):
        yield Fleet(server, paris, london, key_of_paris, key_of_london, server.get(session))


def test_a_key_opens_what_is_of_its_own_relay(fleet: Fleet) -> None:
    for client, relay in ((fleet.key_of_paris, fleet.paris), (fleet.key_of_london, fleet.london)):
        assert client.put(f"{NODES}/{relay.name}", json=relay.about).status_code == 200
        assert client.get(f"{NODES}/{relay.name}/sessions").status_code == 200
        assert client.post(f"{NODES}/{relay.name}/usage", json={"stream": "s", "records": []}).status_code == 204


@pytest.mark.parametrize("name", ["london", "London", "london ", "nobody", "paris%00", "pari", "paris.", "%70aris2"])
def test_it_opens_nothing_of_another_relay(fleet: Fleet, name: str) -> None:
    ended = fleet.london.about | {"ended": [fleet.session["session_id"]]}
    client = fleet.key_of_paris
    for answer in (
        client.put(f"{NODES}/{name}", json=ended),
        client.get(f"{NODES}/{name}/sessions"),
        client.post(f"{NODES}/{name}/usage", json={"stream": "s", "records": []}),
    ):
        assert (answer.status_code, set(answer.json())) == (403, {"message"})
        assert str(fleet.session["authorization_token"]) not in answer.text
    assert fleet.server.get(fleet.session) == fleet.session


def test_it_ends_nothing_of_another_relay_under_its_own_name(fleet: Fleet) -> None:
    beat = fleet.paris.about | {"ended": [fleet.session["session_id"]]}
    assert fleet.key_of_paris.put(f"{NODES}/paris", json=beat).status_code == 200
    assert fleet.server.get(fleet.session) == fleet.session
    page = fleet.key_of_paris.get(f"{NODES}/paris/sessions").json()
    assert (page["sessions"], page["removed"]) == ([], [])


def test_it_opens_none_of_the_public_calls(fleet: Fleet) -> None:
    session_id = fleet.session["session_id"]
    token = fleet.session["session_users"][0]["authorization_token"]
    client = fleet.key_of_london
    for answer in (
        client.post(SESSIONS, json={"users": ["1.1.1.1"]}),
        client.get(SESSIONS),
        client.get(f"{SESSIONS}/{session_id}"),
        client.delete(f"{SESSIONS}/{session_id}"),
        client.post(f"{SESSIONS}:authorize-user", json={"session_id": session_id, "user_ip": "2.2.2.2"}),
        client.post(f"{SESSIONS}:revoke-user", json={"session_id": session_id, "authorization_token": token}),
        client.get("/v1/relays/usage"),
        client.get("/v1/ip"),
    ):
        assert answer.status_code == 403, answer.request.url
    assert fleet.server.get(fleet.session) == fleet.session


def test_a_name_is_not_there_for_the_taking_while_its_relay_is_silent(fleet: Fleet) -> None:
    """It never was heard here at all, which is as silent as a relay can be."""
    answer = fleet.key_of_paris.put(f"{NODES}/rome", json=fleet.paris.about)
    assert answer.status_code == 403
    assert fleet.server.client.get(f"{NODES}/rome/sessions").status_code == 404


@pytest.mark.parametrize("capacity", [1_000_001, 2**53])
def test_a_relay_that_claims_to_be_huge_draws_nothing(server: Server, capacity: int) -> None:
    honest = FakeRelay(server, "honest", ip="203.0.113.1")
    honest.beat()
    huge = FakeRelay(server, "huge", ip="203.0.113.2", capacity=capacity, server_port=1, client_port=2)
    answer = server.client.put(f"{NODES}/huge", json=huge.about | {"load": 0})
    assert answer.status_code == 400
    assert "capacity" in answer.json()["message"]
    made = []
    for _ in range(10):
        honest.beat()
        made.append(server.create()["session_id"])
    assert len(server.client.get(f"{NODES}/honest/sessions").json()["sessions"]) == len(made)


def test_the_largest_capacity_is_taken(server: Server) -> None:
    FakeRelay(server, capacity=1_000_000).beat()
    assert server.create()["status"] == "Initializing"


# Making them --------------------------------------------------------------------------------------------------


def test_a_key_of_a_relay_is_listed_with_it(server: Server) -> None:
    key_of(server, "paris")
    server.command("keys", "add", "in London", "--node", "london", "--scope", "nodes:write")
    server.command("keys", "add", "backend", "--scope", "sessions:read")
    rows = [re.split(r"  +", line) for line in server.command("keys", "list").stdout.splitlines()]
    assert [(row[1], row[-1]) for row in rows] == [
        ("nodes:write of paris", "paris"),
        ("nodes:write of london", "in London"),
        ("sessions:read", "backend"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        ["x"],
        ["--scope", "nodes:write"],
        ["--node", "paris/london"],
        ["--node", ""],
        ["--node", "x" * 129],
        ["x", "--node", "paris", "--scope", "sessions:read"],
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(server: Server, wrong: list[str]) -> None:
    ended = server.command("keys", "add", *wrong)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (64, "", 1), ended.stderr
    assert server.command("keys", "list").stdout == ""


def test_a_revoked_key_of_a_relay_opens_nothing(server: Server) -> None:
    key = key_of(server, "paris")
    relay = FakeRelay(server, "paris")
    with server.with_key(key) as client:
        assert client.put(f"{NODES}/paris", json=relay.about).status_code == 200
        assert server.command("keys", "revoke", key.split("_")[1]).returncode == 0
        assert client.put(f"{NODES}/paris", json=relay.about).status_code == 401
