"""What real clients of the API need of it: generated ones, engines' own, samples of games."""

import codecs
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.control_plane.process import KEY, FakeRelay, Made, Server
from tests.integration.waiting import PATIENCE_SECONDS

INT32_MAX = 2**31 - 1
USERS = [f"198.51.100.{number}" for number in range(8)]


def tokens_of(server: Server, sessions: int) -> list[int]:
    """The tokens of so many sessions, of users who were there at the beginning and of one who came later."""
    relay = FakeRelay(server)
    made = []
    for _ in range(sessions):
        relay.beat()
        made.append(server.create(*USERS))
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


# Their own address --------------------------------------------------------------------------------------------

FORWARDED = "203.0.113.9"


def asked_from(server: Server, *forwarded: str, source: str = "127.0.0.1") -> str:
    """What a caller at that address, behind these proxies, is told of itself."""
    transport = httpx.HTTPTransport(local_address=source)
    headers = [("Authorization", f"token {KEY}"), *(("X-Forwarded-For", value) for value in forwarded)]
    with httpx.Client(base_url=server.url, transport=transport, timeout=PATIENCE_SECONDS) as client:
        answer = client.get("/v1/ip", headers=headers)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"public_ip"}
    return str(answer.json()["public_ip"])


def test_callers_are_told_their_address(shared: Server) -> None:
    assert asked_from(shared) == "127.0.0.1"
    assert asked_from(shared, source="127.0.0.2") == "127.0.0.2"


def test_what_nobody_trusted_forwards_is_not_believed(shared: Server) -> None:
    assert asked_from(shared, FORWARDED) == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "told"),
    [
        ((FORWARDED,), FORWARDED),
        ((f"8.8.8.8, {FORWARDED}, 10.1.2.3",), FORWARDED),
        (("8.8.8.8", f"{FORWARDED}", "10.1.2.3, 10.0.0.1"), FORWARDED),
        ((f"{FORWARDED}:4711",), FORWARDED),
        (("[2001:db8::1]:4711",), "2001:db8::1"),
        ((f"::ffff:{FORWARDED}",), FORWARDED),
        (("8.8.8.8, unknown, 10.1.2.3",), "10.1.2.3"),
        (("10.9.9.9, 10.1.2.3",), "10.9.9.9"),
        ((), "127.0.0.2"),
    ],
)
def test_behind_trusted_proxies_it_is_the_forwarded_one(behind: Server, forwarded: tuple[str, ...], told: str) -> None:
    assert asked_from(behind, *forwarded, source="127.0.0.2") == told


def test_a_neighbour_of_the_proxy_is_not_believed(behind: Server) -> None:
    assert asked_from(behind, FORWARDED, source="127.0.0.3") == "127.0.0.3"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A control plane behind proxies."""
    server = Server(tmp_path_factory.mktemp("behind"), trusted_proxies=["127.0.0.2", "10.0.0.0/8"])
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_only_callers_with_a_key_are_told(shared: Server) -> None:
    assert httpx.get(f"{shared.url}/v1/ip", timeout=PATIENCE_SECONDS).status_code == 401
    for scope in ("sessions:read", "sessions:write", "nodes:write"):
        key = shared.command("keys", "add", "any", "--scope", scope).stdout.strip()
        with shared.with_key(key) as client:
            assert client.get("/v1/ip").status_code == 200


def test_a_proxy_that_is_no_address_is_refused(made: Made) -> None:
    ended = made(trusted_proxies=["proxy.example"]).command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1)
    assert "api.trusted_proxies" in ended.stderr


# What serializers write ---------------------------------------------------------------------------------------

SESSIONS = "/v1/relays/sessions"


@pytest.fixture
def with_relay(shared: Server) -> FakeRelay:
    relay = FakeRelay(shared)
    relay.sync()
    return relay


@pytest.mark.parametrize(
    "more",
    [
        {"webhook_url": None},
        {"webhook_url": ""},
        {"filters": None},
        {"filters": ""},
        {"users": [{"ip": "198.51.100.1", "latitude": None, "longitude": ""}]},
        {"users": [{"ip": "198.51.100.1", "latitude": "48.86", "longitude": "-2"}]},
        {"users": [{"ip": None, "ip_address": "198.51.100.1"}, {"ip": "", "ip_address": "198.51.100.1"}]},
    ],
)
def test_what_is_left_out_may_be_null_or_empty_and_numbers_may_be_text(
    with_relay: FakeRelay, more: dict[str, Any]
) -> None:
    made = with_relay.server.create(**({"users": USERS} | more))
    assert made["status"] == "Initializing"
    with_relay.sync()
    ready = with_relay.server.get(made)
    assert "webhook_url" not in ready
    assert {user.get("latitude", 48.86) for user in ready["session_users"]} == {48.86}


def test_a_token_to_revoke_may_be_text(with_relay: FakeRelay) -> None:
    made = with_relay.server.create(*USERS)
    with_relay.sync()
    host, *players = with_relay.server.get(made)["session_users"]
    body = {"session_id": made["session_id"], "authorization_token": str(host["authorization_token"])}
    answer = with_relay.server.client.post(f"{SESSIONS}:revoke-user", json=body)
    assert (answer.status_code, answer.json()["session_users"]) == (200, players)


@pytest.mark.parametrize("text", ["", " 1", "1_0", "0x10", "1e3", "nan", "1.5", "٣", "9" * 5000])
def test_other_texts_are_no_numbers(shared: Server, text: str) -> None:
    body = {"session_id": "000000000000-S", "authorization_token": text}
    answer = shared.client.post(f"{SESSIONS}:revoke-user", json=body)
    assert answer.status_code == 400
    assert "authorization_token" in answer.json()["message"]


def test_a_byte_order_mark_before_a_body_is_skipped(with_relay: FakeRelay) -> None:
    client = with_relay.server.client
    made = client.post(SESSIONS, content=codecs.BOM_UTF8 + b'{"users": ["198.51.100.1"]}')
    assert (made.status_code, made.json()["status"]) == (200, "Initializing")
    body = {"session_id": made.json()["session_id"], "user_ip": "198.51.100.2"}
    for path, wanted in ((f"{SESSIONS}:authorize-user", body), ("/v1/relays/nodes/relay-1", with_relay.about)):
        content = codecs.BOM_UTF8 + json.dumps(wanted).encode()
        answer = client.request("PUT" if "nodes" in path else "POST", path, content=content)
        assert answer.status_code == 200, answer.text


def test_a_query_and_a_heartbeat_are_read_alike(with_relay: FakeRelay) -> None:
    client = with_relay.server.client
    assert client.get(SESSIONS, params={"page": "", "limit": "2"}).json()["pagination"]["number"] == 1
    assert client.get("/v1/relays/usage", params={"since": "", "after": "", "limit": ""}).status_code == 200
    beat = with_relay.about | {"capacity": "10", "load": "3", "latitude": "", "epoch": "", "draining": None}
    assert client.put("/v1/relays/nodes/relay-1", params={"wait": ""}, json=beat).status_code == 200
