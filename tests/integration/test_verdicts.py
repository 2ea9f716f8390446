"""A test per verdict: what provokes it, what the sender is told, and that its counter moves and no other.

SEND_QUEUE_FULL and SEND_FAILED need a network that does not take what is sent: see test_send_errors.py.
OVERLOADED takes more than relayd can judge: see test_overload.py.
"""

from collections.abc import Iterator

import pytest

from tests.integration.config import SessionKeys, new_session, new_sessions, new_token, with_forwarder
from tests.integration.conftest import StartRelay
from tests.integration.peers import (
    DATA,
    ERROR,
    GOES_ON,
    INVALID,
    OPENS_CONNECTION,
    PING,
    SESSION_TIMEOUT,
    VALID,
    Player,
)
from tests.integration.relay_process import RelayProcess, counted, told
from tests.integration.waiting import eventually

HERE = "127.0.0.1"
ELSEWHERE = "203.0.113.9"
SESSIONS = [
    SessionKeys(keys.session_id, keys.token, keys.users, (HERE,) * len(keys.users))
    for keys in new_sessions(*(f"verdict-{number}" for number in range(120)))
]
pytestmark = pytest.mark.usefixtures("forwarder")

LIMITS = {"pin_ip": True, "rebind_after": 600.0, "host_timeout": 600.0, "refusals_per_source_per_second": 100_000}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, forwarder: str) -> Iterator[RelayProcess]:
    """One relay for all; each test has a session of its own in it."""
    overrides = with_forwarder(forwarder, {"limits": LIMITS})
    with RelayProcess(tmp_path_factory.mktemp("relay"), list(SESSIONS), overrides) as process:
        yield process


@pytest.fixture
def session() -> SessionKeys:
    return SESSIONS.pop()


def test_forwarded(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        before = relay.counts()
        there = player.say(b"there" * 200)
        connection_id, payload = host.hear()
        assert payload == b"there" * 200
        back = host.say(connection_id, b"back")
        assert player.hear() == b"back"
        relay.assert_counted(before, counted("client", "forwarded", there), counted("server", "forwarded", back))


@pytest.mark.parametrize("size", [1, 1186, 1187])
def test_forwarded_at_every_length_that_fits_both_ways(relay: RelayProcess, session: SessionKeys, size: int) -> None:
    payload = bytes(index & 0xFF for index in range(size))
    with relay.host(session) as host, relay.player(session) as player:
        host.ping()
        player.say(payload)
        connection_id, heard = host.hear()
        assert heard == payload
        host.say(connection_id, payload)
        assert player.hear() == payload


def test_answered(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        before = relay.counts()
        pings = player.send_ping(), host.send_ping()
        assert (player.receive(), host.receive()) == (VALID, VALID)
        relay.assert_counted(before, counted("client", "answered", pings[0]), counted("server", "answered", pings[1]))


@pytest.mark.parametrize(
    ("verdict", "port", "tail"),
    [
        ("too_short", "client", None),
        ("too_short", "server", None),
        ("too_short", "client", b""),
        ("too_short", "server", b""),
        ("too_short", "server", DATA + b"\x01\x00\x00"),
        ("too_long", "client", DATA + bytes(1192)),
        ("too_long", "server", PING + bytes(1192)),
        ("too_long", "client", DATA + bytes(1900)),
        ("unknown_type", "client", b"\x00"),
        ("unknown_type", "client", b"\x03payload"),
        ("unknown_type", "server", b"\xffpayload"),
        ("no_payload", "client", DATA),
        ("no_payload", "server", DATA + b"\x01\x00\x00\x00"),
    ],
)
def test_malformed_datagrams_are_dropped_in_silence(
    relay: RelayProcess, session: SessionKeys, verdict: str, port: str, tail: bytes | None
) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        sender = player if port == "client" else host
        before = relay.counts()
        dropped = sender.send(b"" if tail is None else sender.header + tail)
        fence = sender.send_ping()
        assert sender.receive() == VALID
        relay.assert_counted(before, counted(port, verdict, dropped), counted(port, "answered", fence))
        assert host.received_by_now() + player.received_by_now() == []


@pytest.mark.parametrize("port", ["client", "server"])
@pytest.mark.parametrize("wrong", ["user", "session"])
@pytest.mark.parametrize("tail", [PING, DATA + b"\x01\x00\x00\x00let me in"])
def test_unknown_pair(relay: RelayProcess, session: SessionKeys, port: str, wrong: str, tail: bytes) -> None:
    user = new_token() if wrong == "user" else session.players[0]
    token = new_token() if wrong == "session" else session.token
    with Player(relay.address(port), user, token) as stranger:
        before = relay.counts()
        refused = stranger.send(stranger.header + tail)
        assert stranger.receive() == INVALID
        relay.assert_counted(before, counted(port, "unknown_pair", refused), told(port, "invalid"))


def test_address_conflict(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player, relay.player(session) as other:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        before = relay.counts()
        dropped = other.send_ping(), other.say(OPENS_CONNECTION)
        fence = player.say(b"still here")
        assert host.hear()[1] == b"still here"
        relay.assert_counted(
            before, counted("client", "address_conflict", *dropped), counted("client", "forwarded", fence)
        )
        assert other.received_by_now() == []


def test_address_conflict_of_a_host(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.host(session) as other:
        assert host.ping() == VALID
        before = relay.counts()
        dropped = other.send_ping()
        fence = host.send_ping()
        assert host.receive() == VALID
        relay.assert_counted(
            before, counted("server", "address_conflict", dropped), counted("server", "answered", fence)
        )
        assert other.received_by_now() == []


@pytest.mark.parametrize("address", [ELSEWHERE, None])
def test_address_refused(relay: RelayProcess, address: str | None) -> None:
    keys = new_session(f"pinned to {address}", players=1)._replace(ip_addresses=(HERE, address))
    relay.add_sessions(keys)
    with relay.host(keys) as host, relay.player(keys) as player:
        assert host.ping() == VALID
        before = relay.counts()
        refused = player.send_ping(), player.say(OPENS_CONNECTION)
        assert [player.receive(), player.receive()] == [ERROR, ERROR]
        relay.assert_counted(before, counted("client", "address_refused", *refused), told("client", "error", 2))
        assert host.received_by_now() == []


def test_host_conflict(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.host(session, session.players[0]) as other:
        assert host.ping() == VALID
        before = relay.counts()
        refused = other.send_ping(), other.say(1, GOES_ON)
        assert [other.receive(), other.receive()] == [ERROR, ERROR]
        relay.assert_counted(before, counted("server", "host_conflict", *refused), told("server", "error", 2))


def test_no_host(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.player(session) as player:
        before = relay.counts()
        dropped = player.say(OPENS_CONNECTION)
        fence = player.send_ping()
        assert player.receive() == VALID
        relay.assert_counted(before, counted("client", "no_host", dropped), counted("client", "answered", fence))


def test_unknown_connection(relay: RelayProcess, session: SessionKeys) -> None:
    with relay.host(session) as host, relay.player(session) as player:
        host.ping()
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        before = relay.counts()
        dropped = [host.say(wrong, b"lost") for wrong in (0, -1, connection_id ^ 1, -connection_id)]
        fence = host.say(connection_id, b"arrives")
        assert player.hear() == b"arrives"
        relay.assert_counted(
            before, counted("server", "unknown_connection", *dropped), counted("server", "forwarded", fence)
        )
        assert host.received_by_now() + player.received_by_now() == []


def test_session_ended(start_relay: StartRelay) -> None:
    ended, stays = new_sessions("ended", "stays")
    relay = start_relay([ended, stays])
    with relay.host(ended) as host, relay.player(ended) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        relay.write_sessions([stays])
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the session is gone")
        before = relay.counts()
        refused = player.send_ping(), player.say(GOES_ON)
        assert [player.receive(), player.receive()] == [SESSION_TIMEOUT, SESSION_TIMEOUT]
        from_host = host.say(1, GOES_ON)
        assert host.receive() == SESSION_TIMEOUT
        relay.assert_counted(
            before,
            counted("client", "session_ended", *refused),
            told("client", "session_timeout", 2),
            counted("server", "session_ended", from_host),
            told("server", "session_timeout"),
        )


def test_rate_limited(start_relay: StartRelay) -> None:
    keys = new_session("fast")
    relay = start_relay([keys], {"limits": {"user_datagrams_per_second": 5}})
    with relay.host(keys) as host, relay.player(keys) as player:
        assert host.ping() == VALID
        before = relay.counts()
        pings = [player.send_ping() for _ in range(100)]
        moved = relay.counted_since(before, len(pings))
        answers = player.received_by_now()
        # How many are let through depends on how long the sending took; each one shows by its answer.
        assert set(answers) == {VALID}
        assert 5 <= len(answers) < len(pings)
        assert moved == {
            **counted("client", "answered", *pings[: len(answers)]),
            **counted("client", "rate_limited", *pings[len(answers) :]),
        }
        # The bound is per user: another one has all of his.
        with relay.player(keys, 1) as other:
            assert other.ping() == VALID


def test_draining(relay: RelayProcess) -> None:
    playing, later = SESSIONS.pop(), SESSIONS.pop()
    with relay.player(playing) as player, relay.player(later) as newcomer, relay.player(playing, 1) as friend:
        assert player.ping() == VALID
        assert relay.request("POST", "/v1/drain")[0] == 200
        before = relay.counts()
        refused = newcomer.send_ping(), newcomer.say(OPENS_CONNECTION)
        assert [newcomer.receive(), newcomer.receive()] == [ERROR, ERROR]
        pings = player.send_ping(), friend.send_ping()
        assert (player.receive(), friend.receive()) == (VALID, VALID)
        relay.assert_counted(
            before,
            counted("client", "draining", *refused),
            told("client", "error", 2),
            counted("client", "answered", *pings),
        )
        assert relay.request("DELETE", "/v1/drain")[0] == 200


def test_relay_full(start_relay: StartRelay) -> None:
    keys = new_session("full")
    relay = start_relay([keys], {"limits": {"max_bound_users": 2}})
    with relay.host(keys) as host, relay.player(keys) as player, relay.player(keys, 1) as late:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        before = relay.counts()
        refused = late.send_ping(), late.say(OPENS_CONNECTION)
        assert [late.receive(), late.receive()] == [ERROR, ERROR]
        relay.assert_counted(before, counted("client", "relay_full", *refused), told("client", "error", 2))
        assert host.received_by_now() == []


@pytest.mark.parametrize("limit", ["refusals_per_second", "refusals_per_source_per_second"])
def test_only_so_many_refusals_are_told(start_relay: StartRelay, limit: str) -> None:
    relay = start_relay(new_sessions("known"), {"limits": {limit: 3}})
    with Player(relay.address("client"), new_token(), new_token()) as stranger:
        before = relay.counts()
        refused = [stranger.send_ping() for _ in range(100)]
        moved = relay.counted_since(before, len(refused))
        answers = stranger.received_by_now()
        assert set(answers) == {INVALID}
        assert 3 <= len(answers) < len(refused)
        assert moved == {
            **counted("client", "unknown_pair", *refused),
            **told("client", "invalid", len(answers)),
        }
