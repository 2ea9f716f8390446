"""`relayd explain`: each cause provoked for real, and what an operator is told of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, forms_of, new_session, new_sessions, new_token
from tests.integration.conftest import StartRelay
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import (
    ERROR,
    GOES_ON,
    INVALID,
    OPENS_CONNECTION,
    SESSION_TIMEOUT,
    VALID,
    Host,
    Player,
    talking,
)
from tests.integration.relay_process import RelayProcess
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

SESSIONS = new_sessions(*(f"explained-{number}" for number in range(20)))
LIMITS = {"rebind_after": 600.0, "host_timeout": 600.0, "refusals_per_source_per_second": 100_000}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """One relay for all; each test has a session of its own in it."""
    with RelayProcess(tmp_path_factory.mktemp("relay"), list(SESSIONS), {"limits": LIMITS}) as process:
        yield process


@pytest.fixture
def session() -> SessionKeys:
    return SESSIONS.pop()


def short(token: int) -> str:
    return f"…{token % 1000:03d}"


def explained(relay: RelayProcess, target: object) -> str:
    """What the command prints for people; no token in it in full."""
    done = relayd("explain", str(target), "--config", str(relay.config_path))
    assert (done.returncode, done.stderr) == (0, "")
    shown = [form for secret in relay._secrets for form in forms_of(secret) if form in done.stdout]
    assert not shown
    return done.stdout


def codes(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith((" ", "recently"))]


def assert_found(relay: RelayProcess, target: object, code: str, *says: str, also: tuple[object, ...] = ()) -> None:
    """The first thing that is found is this, and what is printed below it says so.

    Who asks about ``also`` instead, over HTTP, is told the same first.
    """
    text = explained(relay, target)
    assert codes(text)[0] == code, text
    for part in says:
        assert part in text
    assert "→ " in text
    for other in also:
        first = relay.get_json(f"/v1/explain?target={other}")["findings"][0]
        assert first["code"] == code, (other, first)
        assert any(part in first["sentence"] for part in says)


def first_codes(relay: RelayProcess, target: object) -> list[str]:
    """The codes of all that is found, asked over HTTP, which is quicker."""
    return [finding["code"] for finding in relay.get_json(f"/v1/explain?target={target}")["findings"]]


def refuse(peer: Player | Host, answer: bytes, times: int = 3) -> None:
    for _ in range(times):
        peer.send_ping()
        assert peer.receive() == answer


def test_wrong_session_token(relay: RelayProcess, session: SessionKeys) -> None:
    wrong = new_token()
    with Player(relay.address("client"), session.players[0], wrong) as player:
        refuse(player, INVALID, 70)
        says = (
            f"session token {short(wrong)} unknown, user token {short(session.players[0])} known in session"
            f" {session.session_id}, 70 datagrams from 127.0.0.1 in ",
            f"use the session token of session {session.session_id}",
        )
        assert_found(
            relay,
            session.players[0],
            "session_token_unknown",
            *says,
            also=(
                session.session_id,
                wrong,
                f"127.0.0.1:{player.port}",
            ),
        )


def test_wrong_user_token(relay: RelayProcess, session: SessionKeys) -> None:
    wrong = new_token()
    with Player(relay.address("client"), wrong, session.token) as player:
        refuse(player, INVALID, 70)
        says = (
            f"session {session.session_id} known, user token {short(wrong)} unknown in it, 70 datagrams from"
            " 127.0.0.1 in ",
            f"authorize the user in session {session.session_id}, or check that user and session token are not swapped",
        )
        assert_found(
            relay,
            wrong,
            "user_token_unknown",
            *says,
            also=(
                session.token,
                session.session_id,
                f"127.0.0.1:{player.port}",
            ),
        )


def test_a_user_token_of_another_session(relay: RelayProcess, session: SessionKeys) -> None:
    other = SESSIONS.pop()
    with Player(relay.address("client"), other.players[0], session.token) as player:
        refuse(player, INVALID)
        advice = f"the user token is one of session {other.session_id}: use that session's token"
        assert_found(relay, session.token, "user_token_unknown", advice)


def test_swapped_tokens(relay: RelayProcess, session: SessionKeys) -> None:
    with Player(relay.address("client"), session.token, session.players[0]) as player:
        refuse(player, INVALID)
        says = f"user and session token are swapped: both are those of session {session.session_id}, 3 datagrams from"
        assert_found(
            relay,
            session.players[0],
            "tokens_swapped",
            says,
            also=(
                session.token,
                session.session_id,
                f"127.0.0.1:{player.port}",
            ),
        )


def test_host_on_the_client_port(relay: RelayProcess, session: SessionKeys) -> None:
    with Player(relay.address("client"), session.host, session.token) as host, relay.player(session) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)

        def found() -> bool:
            assert host.ping() == VALID
            return first_codes(relay, session.host)[0] == "host_on_client_port"

        eventually(found, "it has PINGed more than once")
        # The player who waits for that host learns the same.
        assert first_codes(relay, session.players[0])[:2] == ["host_on_client_port", "no_host"]
        ports = relay.settings["relay"]
        assert_found(
            relay,
            session.host,
            "host_on_client_port",
            f"user {short(session.host)} only PINGs the client port, UDP {ports['client_port']}, as a host does",
            f"the host sends to the server port, UDP {ports['server_port']}",
        )


def test_player_on_the_server_port(relay: RelayProcess, session: SessionKeys) -> None:
    with (
        relay.host(session) as host,
        Player(relay.address("server"), session.players[0], session.token) as player,
    ):
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        assert player.receive() == ERROR
        who, holder = short(session.players[0]), short(session.host)
        server_port = relay.settings["relay"]["server_port"]
        says = f"user {who} sends DATA to the server port, UDP {server_port}, where user {holder} is the host"
        assert_found(relay, session.players[0], "player_on_server_port", says, "a player sends to the client port")


def test_player_on_the_server_port_before_the_host(start_relay: StartRelay) -> None:
    session = new_session("taken", players=2)
    relay = start_relay([session], {"limits": {"host_policy": "any"}})
    with relay.host(session) as host, Player(relay.address("server"), session.players[0], session.token) as player:
        player.say(OPENS_CONNECTION)
        assert player.ping() == VALID
        refuse(host, ERROR)
        says = f"user {short(session.players[0])} holds the place of the host, but sends DATA to the server port"
        assert_found(relay, session.players[0], "player_on_server_port", says)
        assert first_codes(relay, session.host) == ["player_on_server_port", "host_conflict"]


def test_who_is_not_the_declared_host(start_relay: StartRelay) -> None:
    session = new_session("declared")
    relay = start_relay([session], {"limits": {"host_policy": "strict"}})
    with Host(relay.address("server"), session.players[0], session.token) as player:
        refuse(player, ERROR)
    who = short(session.players[0])
    says = f"limits.host_policy is strict, and user {who} is not the first user of session declared"
    assert_found(relay, session.players[0], "host_conflict", says, "name the host first in session_users")


def test_session_ended(start_relay: StartRelay) -> None:
    ended, stays = new_sessions("ended", "stays")
    relay = start_relay([ended, stays])
    with relay.player(ended) as player:
        assert player.ping() == VALID
        relay.write_sessions([stays])
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the session is gone")
        assert_found(relay, "ended", "session_ended", "session ended ended ", "its source names it no longer")
        refuse(player, SESSION_TIMEOUT)
        says = f"user {short(ended.players[0])} still sends: 3 datagrams from 127.0.0.1"
        assert_found(
            relay,
            ended.players[0],
            "session_ended",
            says,
            "create a new session",
            also=(
                ended.token,
                "ended",
                "127.0.0.1",
            ),
        )


def test_revoked(start_relay: StartRelay) -> None:
    keys = new_session("revoked")
    relay = start_relay([keys])
    with relay.host(keys) as host, relay.player(keys) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        relay.write_sessions([keys._replace(users=(keys.users[0], keys.users[2]))])
        eventually(lambda: relay.metrics()["relayd_users", "authorized"] == 2, "the user is gone")
        who = short(keys.players[0])
        assert_found(relay, keys.players[0], "user_revoked", f"user {who} was taken out of session revoked ")
        refuse(player, INVALID)
        assert_found(
            relay,
            keys.players[0],
            "user_revoked",
            "s ago and still sends: 3 datagrams from 127.0.0.1",
            also=(f"127.0.0.1:{player.port}",),
        )


def test_no_host_yet(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.player(session) as player:
        for _ in range(12):
            player.say(OPENS_CONNECTION)
        assert player.ping() == VALID
        says = (
            f"session {session.session_id} has no host: what user {short(session.players[0])} sends cannot be"
            " forwarded, 12 datagrams from 127.0.0.1",
            f"start the host, or check that it sends to the server port, UDP {relay.settings['relay']['server_port']}",
        )
        assert_found(relay, session.players[0], "no_host", *says, also=(session.session_id,))


def test_address_conflict(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player, relay.player(session) as twin:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        twin.say(OPENS_CONNECTION)
        twin.send_ping()
        assert player.ping() == VALID
        says = (
            f"user {short(session.players[0])} is bound to 127.0.0.1 {player.port}, heard ",
            "from elsewhere came 2 datagrams from 127.0.0.1",
            "two programs use this user token",
        )
        assert_found(
            relay,
            session.players[0],
            "address_conflict",
            *says,
            also=(
                session.session_id,
                f"127.0.0.1:{twin.port}",
            ),
        )


@needs_kernel
def test_address_conflict_that_only_the_kernel_saw(tmp_path: Path) -> None:
    keys = new_session("kernel")
    folder = tmp_path / "relay"
    folder.mkdir()
    with (
        own_network(),
        bpf_file_system(tmp_path / "bpf") as pins,
        RelayProcess(folder, [keys], {**on_loopback(pins), "limits": LIMITS}, ("run", "--detach-on-exit")) as relay,
        relay.host(keys) as host,
        relay.player(keys) as player,
        relay.player(keys) as twin,
    ):

        def kernel_serves() -> bool:
            assert (host.ping(), player.ping()) == (VALID, VALID)
            return ("relayd_fast_path_datagrams_total", "client", "answered") in relay.metrics()

        eventually(kernel_serves, "the kernel serves the player")
        before = relay.counts()
        for _ in range(7):
            twin.send_ping()
        relay.counted_since(before, 7)
        assert player.ping() == VALID
        (finding, through) = relay.get_json(f"/v1/explain?target={keys.players[0]}")["findings"]
        assert (finding["code"], through["code"]) == ("address_conflict", "gets_through")
        assert "; the kernel dropped 7 datagrams from other addresses" in finding["sentence"]


def test_pinned_address(start_relay: StartRelay) -> None:
    keys = new_session("pinned", players=1)._replace(ip_addresses=("127.0.0.1", "203.0.113.9"))
    relay = start_relay([keys], {"limits": {"pin_ip": True}})
    with relay.player(keys) as player:
        refuse(player, ERROR)
        says = f"limits.pin_ip is on: user {short(keys.players[0])} may only come from 203.0.113.9; from elsewhere came"
        assert_found(relay, keys.players[0], "address_pinned", says, "turn limits.pin_ip off")


def test_oversized_datagrams(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        for _ in range(5):
            player.say(bytes(1192))
        assert player.ping() == VALID
        says = (
            f"user {short(session.players[0])} sends datagrams of more than 1,200 bytes, which are dropped: 5 datagrams"
        )
        assert_found(relay, session.players[0], "too_long", says, "a payload may have 1,187 bytes")
        assert player.ping() == VALID
        assert "gets_through" in first_codes(relay, session.players[0])


def test_rate_limit(start_relay: StartRelay) -> None:
    keys = new_session("fast")
    relay = start_relay([keys], {"limits": {"user_datagrams_per_second": 5}})
    with relay.host(keys) as host, relay.player(keys) as player:
        assert host.ping() == VALID
        before = relay.counts()
        for _ in range(100):
            player.send_ping()
        relay.counted_since(before, 100)
        says = f"user {short(keys.players[0])} sends more than 5 datagrams or 20000000 bytes a second,"
        assert_found(relay, keys.players[0], "rate_limited", says, "raise limits.user_…_per_second")


def test_control_plane_stale(start_relay: StartRelay) -> None:
    keys, newer = new_sessions("kept", "newer")
    with StandIn(nodes=True) as control_plane:
        source = {"kind": "control_plane", "url": control_plane.url, "timeout": 0.5}
        relay = start_relay(None, {"source": source}, ready=False)
        server_port, client_port = (relay.settings["relay"][f"{port}_port"] for port in ("server", "client"))
        control_plane.sessions = [relay_session(keys, "127.0.0.1", server_port, client_port)]
        control_plane.changed()
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the session is there")
        control_plane.close()
        eventually(lambda: "not followed" in relay.get("/readyz")[1], "the relay knows that it is alone")
        with Player(relay.address("client"), newer.players[0], newer.token) as player:
            player.send_ping()
            player.receive()
            text = explained(relay, newer.players[0])
            assert codes(text) == ["source_stale", "session_token_unknown"]
            assert "the session source has not been followed for " in text
            assert "games that run play on" in text


def test_all_is_well(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        host.say(connection_id, GOES_ON)
        player.hear()
        with talking(host, player):
            assert first_codes(relay, session.session_id) == ["not_heard", "gets_through", "gets_through"]
            text = explained(relay, session.session_id)
        assert f"never heard: user {short(session.players[1])}" in text
        assert f"gets through as a player of session {session.session_id}: bound from 127.0.0.1 {player.port}" in text
        assert "1 datagram to the host, 1 back" in text
        assert f"user {short(session.players[0])}, user bound, session {session.session_id}, client port" in text


@pytest.mark.parametrize(
    "target", ["no-such-session", "203.0.113.77", "198.51.100.1:5000", "[2001:db8::1]:70", "4294967295"]
)
def test_nothing_known(relay: RelayProcess, target: str) -> None:
    assert_found(relay, target, "nothing_known", "check it for typing errors")


def test_for_machines(relay: RelayProcess, session: SessionKeys) -> None:
    with Player(relay.address("client"), new_token(), session.token) as player:
        refuse(player, INVALID)
    done = relayd("explain", str(session.token), "--json", "--config", str(relay.config_path))
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["target"] == f"token {short(session.token)}"
    assert [finding["code"] for finding in found["findings"]] == ["user_token_unknown", "not_heard"]
    assert found["findings"][0]["current"]
    (refusal,) = found["refusals"]
    assert (refusal["verdict"], refusal["port"], refusal["datagrams"]) == ("unknown_pair", "client", 3)
    assert refusal["session"] == short(session.token)
    assert relay.get("/v1/explain")[0] == 422


@pytest.mark.parametrize("asked", [("explain", "7")])
def test_while_no_relay_runs(tmp_path: Path, asked: tuple[str, ...]) -> None:
    done = relayd(*asked, "--config", str(write_config(tmp_path)))
    assert_one_clear_line(done, 69, "no relay answers on 127.0.0.1:")
