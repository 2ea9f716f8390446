"""What time changes: silent hosts and players, moves, sessions with nobody in them; and draining."""

import json
import time

import pytest

from tests.integration.config import SessionKeys, new_session, new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import ERROR, GOES_ON, OPENS_CONNECTION, SESSION_TIMEOUT, VALID, talking
from tests.integration.relay_process import RelayProcess, counted
from tests.integration.waiting import eventually

TIMEOUT_SECONDS = 3.0
"""Of whatever ends here by silence: longer than a busy machine keeps somebody silent who wants to be heard."""


@pytest.fixture
def keys() -> SessionKeys:
    return new_session("alive")


def test_another_user_takes_over_from_a_silent_host(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"host_timeout": TIMEOUT_SECONDS, "host_policy": "any"}})
    with relay.host(keys) as host, relay.host(keys, keys.players[1]) as successor, relay.player(keys) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        heard_at = time.monotonic()
        host.send_ping()
        assert host.receive() == VALID

        answers = successor.ping_until(VALID)
        assert time.monotonic() - heard_at > TIMEOUT_SECONDS - 0.1
        assert set(answers[:-1]) <= {ERROR}
        player.say(GOES_ON)
        assert successor.hear() == (connection_id, GOES_ON)
        successor.say(connection_id, b"I am the host now")
        assert player.hear() == b"I am the host now"
        # The old one is a stranger on the server port from now on.
        assert host.ping() == ERROR
        host.say(connection_id, b"I was the host")
        assert host.receive() == ERROR
        assert player.received_by_now() == []


def test_a_host_that_is_heard_keeps_its_place(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"host_timeout": TIMEOUT_SECONDS}})
    with relay.host(keys) as host, relay.host(keys, keys.players[1]) as rival:
        began = time.monotonic()

        def heard_longer_than_it_may_be_silent() -> bool:
            assert host.ping() == VALID
            assert rival.ping() == ERROR
            return time.monotonic() > began + 1.5 * TIMEOUT_SECONDS

        eventually(heard_longer_than_it_may_be_silent, "it is still the host")


@pytest.mark.parametrize(
    ("policy", "keeps_id_within_connection", "keeps_id_for_new_connection"),
    [("kcp", True, False), ("stable", True, True), ("per_address", False, False)],
)
def test_a_player_moves(
    start_relay: StartRelay,
    keys: SessionKeys,
    policy: str,
    keeps_id_within_connection: bool,
    keeps_id_for_new_connection: bool,
) -> None:
    relay = start_relay([keys], {"limits": {"connection_id_policy": policy, "rebind_after": 0}})
    with relay.host(keys) as host:
        assert host.ping() == VALID
        for number, (first_data, keeps_id) in enumerate(
            ((GOES_ON, keeps_id_within_connection), (OPENS_CONNECTION, keeps_id_for_new_connection))
        ):
            with relay.player(keys, number) as before, relay.player(keys, number) as after:
                before.say(OPENS_CONNECTION)
                old_id, _ = host.hear()
                after.say(first_data)
                new_id, heard = host.hear()
                assert heard == first_data
                assert (new_id == old_id) is keeps_id
                host.say(new_id, b"over here")
                assert after.hear() == b"over here"
                assert before.received_by_now() == []


def test_a_move_waits_until_the_old_address_is_silent(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"rebind_after": TIMEOUT_SECONDS}})
    with relay.host(keys) as host, relay.player(keys) as before, relay.player(keys) as after:
        assert host.ping() == VALID
        before.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        heard_at = time.monotonic()
        before.send_ping()
        after.send_ping()
        assert before.receive() == VALID
        host.say(connection_id, b"still there")
        assert before.hear() == b"still there"
        assert after.ping_until(VALID) == [VALID]
        assert time.monotonic() - heard_at > TIMEOUT_SECONDS - 0.1
        host.say(connection_id, b"moved")
        assert after.hear() == b"moved"
        # Both at once: whoever was there first is the player.
        assert before.ping() == VALID
        counts = relay.counts()
        dropped = after.send_ping()
        fence = before.send_ping()
        relay.assert_counted(
            counts, counted("client", "address_conflict", dropped), counted("client", "answered", fence)
        )
        assert before.receive() == VALID
        host.say(connection_id, b"and stays")
        assert before.hear() == b"and stays"


def test_a_host_moves(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"rebind_after": 0.2, "host_timeout": 600}})
    with relay.host(keys) as before, relay.host(keys) as after, relay.player(keys) as player:
        assert before.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = before.hear()
        after.ping_until(VALID)
        player.say(GOES_ON)
        assert after.hear() == (connection_id, GOES_ON)
        assert before.received_by_now() == []


def test_pin_ip_follows_the_session_file(start_relay: StartRelay, keys: SessionKeys) -> None:
    here, elsewhere = "127.0.0.1", "198.51.100.1"
    relay = start_relay([keys._replace(ip_addresses=(here, elsewhere, here))], {"limits": {"pin_ip": True}})
    with relay.player(keys, 0) as pinned_elsewhere, relay.player(keys, 1) as pinned_here:
        assert (pinned_elsewhere.ping(), pinned_here.ping()) == (ERROR, VALID)
        # IPv4 wrapped in IPv6 is the same address.
        relay.write_sessions([keys._replace(ip_addresses=(here, f"::ffff:{here}", elsewhere))])
        pinned_elsewhere.ping_until(VALID)
        # Who is bound stays so: the address decides who may bind.
        assert pinned_here.ping() == VALID
    with relay.player(keys, 1) as newcomer:
        assert newcomer.ping() == ERROR


def test_draining_and_back(start_relay: StartRelay) -> None:
    playing, waiting = new_sessions("playing", "waiting")
    relay = start_relay([playing, waiting])
    with relay.host(playing) as host, relay.player(playing) as player, relay.host(waiting) as newcomer:
        assert host.ping() == VALID
        status, body = relay.request("POST", "/v1/drain")
        told = {"control_plane_told": None}
        assert (status, json.loads(body)) == (200, {"draining": True, "active_sessions": 1, "bound_users": 1, **told})
        assert relay.metrics()["relayd_draining",] == 1
        assert newcomer.ping() == ERROR
        # A game that is on goes on, and may still be joined.
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        host.say(connection_id, b"come in")
        assert player.hear() == b"come in"
        status, body = relay.request("DELETE", "/v1/drain")
        assert (status, json.loads(body)) == (200, {"draining": False, "active_sessions": 1, "bound_users": 2, **told})
        assert relay.metrics()["relayd_draining",] == 0
        assert newcomer.ping() == VALID


def bound(relay: RelayProcess) -> tuple[float, float]:
    metrics = relay.metrics()
    return metrics["relayd_users", "host"], metrics["relayd_users", "player"]


def test_a_silent_player_is_unbound(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"user_timeout": TIMEOUT_SECONDS}})
    with relay.host(keys) as host, relay.player(keys, 0) as silent, relay.player(keys, 1) as talks:
        assert {host.ping(), silent.ping(), talks.ping()} == {VALID}
        silent.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()

        def only_the_silent_one_is_gone() -> bool:
            assert (host.ping(), talks.ping()) == (VALID, VALID)
            return bound(relay) == (1, 1)

        eventually(only_the_silent_one_is_gone, "the silent player is unbound")
        assert relay.log_lines(event="user unbound, silent for too long", connection_id=connection_id)
        before = relay.counts()
        dropped = host.say(connection_id, b"are you there?")
        fence = host.send_ping()
        assert host.receive() == VALID
        relay.assert_counted(
            before, counted("server", "unknown_connection", dropped), counted("server", "answered", fence)
        )
        assert silent.received_by_now() == []
        # Back from the same address within the same connection, it is the same player to the host.
        silent.say(GOES_ON)
        assert host.hear() == (connection_id, GOES_ON)


def test_a_session_with_nobody_in_it_ends(start_relay: StartRelay) -> None:
    busy, idle, never = new_sessions("busy", "idle", "never")
    relay = start_relay([], {"limits": {"user_timeout": 0.5, "session_idle_timeout": TIMEOUT_SECONDS}})
    with relay.player(busy) as player, relay.player(idle) as left, talking(player):
        relay.write_sessions([busy, idle, never])
        left.ping_until(VALID)
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the idle sessions end")
        assert relay.get("/v1/sessions/busy")[0] == 200
        assert left.ping() == SESSION_TIMEOUT
        assert relay.get("/v1/sessions/idle")[0] == 404
        ended = {line["session"] for line in relay.log_lines(event="session ended, nobody was there")}
        assert ended == {"idle", "never"}
        # The file still names it; that does not bring it back.
        relay.write_sessions([busy, idle, never, new_session("more")])
        eventually(lambda: relay.get("/v1/sessions/more")[0] == 200, "the file is read")
        assert left.ping() == SESSION_TIMEOUT


def test_a_session_never_ends_when_told_so(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys], {"limits": {"user_timeout": 0.2, "session_idle_timeout": 0}})
    with relay.player(keys) as player:
        assert player.ping() == VALID
        eventually(lambda: bound(relay) == (0, 0), "the player is unbound")
        assert relay.metrics()["relayd_sessions",] == 1
        assert player.ping() == VALID
