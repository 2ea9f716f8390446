"""Sessions from a file that changes, breaks, shrinks, vanishes and comes back under a running relay."""

import json
import signal
from datetime import datetime

import pytest

from tests.integration.config import SessionKeys, new_session, new_sessions, replace_text
from tests.integration.conftest import StartRelay
from tests.integration.peers import CHECKING, GOES_ON, INVALID, OPENS_CONNECTION, SESSION_TIMEOUT, VALID, Host, Player
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

SELDOM = {"source": {"poll_interval": 3600}}


def applied(relay: RelayProcess, sessions: int) -> None:
    eventually(lambda: relay.metrics()["relayd_sessions",] == sessions, f"{sessions} sessions are in the table")


def failures(relay: RelayProcess) -> float:
    return relay.metrics()["relayd_source_failures_total",]


def connection_id(player: Player, host: Host) -> int:
    player.say(GOES_ON)
    found, payload = host.hear()
    assert payload == GOES_ON
    return found


def test_a_change_is_applied(start_relay: StartRelay) -> None:
    first, second = new_sessions("first", "second")
    relay = start_relay([first])
    with relay.player(second) as player:
        assert player.ping() == INVALID
        relay.write_sessions([first, second])
        player.ping_until(VALID)
    assert relay.metrics()["relayd_users", "authorized"] == len(first.users) + len(second.users)


def mistakes(good: SessionKeys) -> dict[str, tuple[str, str]]:
    """Kinds of broken session files, and what has to be said of each: line and field."""

    def with_session(**fields: object) -> str:
        return json.dumps({"sessions": [good.as_json(), {**new_session("bad").as_json(), **fields}]}, indent=1)

    text = with_session(authorization_token="12")
    line = 1 + text[: text.index('"12"')].count("\n")
    bad_user = with_session(session_users=[{"ip_address": "not an address", "authorization_token": 7}])
    user_line = 1 + bad_user[: bad_user.index("not an address")].count("\n")
    return {
        "empty": ("", ":1: "),
        "cut off": (json.dumps({"sessions": [good.as_json()]}, indent=1)[:-20], "not valid JSON"),
        "another format": ("[relay]\nid = 1\n", ":1: "),
        "no sessions": ("{}", ":1: sessions: missing"),
        "not an array": ('{\n"sessions": {}}', ":2: sessions: should be an array"),
        "token as text": (text, f":{line}: sessions[1].authorization_token: "),
        "token 0": (with_session(authorization_token=0), "sessions[1].authorization_token: "),
        "token of 33 bits": (with_session(authorization_token=1 << 32), "sessions[1].authorization_token: "),
        "no token": (with_session(authorization_token=None), "sessions[1]: session bad has no authorization_token"),
        "address": (bad_user, f":{user_line}: sessions[1].session_users[0].ip_address: "),
        "same id twice": (with_session(session_id=good.session_id), f"session_id {good.session_id} appears twice"),
        "same token twice": (with_session(authorization_token=good.token), "have the same authorization_token"),
        "same user twice": (
            with_session(session_users=[{"authorization_token": 5}, {"authorization_token": 5}]),
            "two users of session bad have the same authorization_token",
        ),
    }


@pytest.fixture
def keys() -> SessionKeys:
    return new_session("good")


def test_a_broken_file_changes_nothing_and_is_told_once(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys])
    broken = mistakes(keys)
    relay.allowed_errors = len(broken)
    with relay.host(keys) as host, relay.player(keys) as player:
        host.ping()
        before = connection_id(player, host)
        for number, (text, says) in enumerate(broken.values(), 1):
            replace_text(relay.sessions_path, text)
            eventually(lambda number=number: failures(relay) == number, "the file is refused")  # type: ignore[misc]
            problem = relay.log_lines(level="error")[-1]["problem"]
            assert says in problem
            assert problem.startswith(f"{relay.sessions_path}:")
            assert connection_id(player, host) == before

        # Reading the broken file again says nothing new.
        signals = len(relay.log_lines(event="reading the session source again"))
        relay.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: len(relay.log_lines(event="reading the session source again")) > signals, "the signal is noticed"
        )
        relay.write_sessions([keys, new_session("after")])
        applied(relay, 2)
        assert len(relay.log_lines(level="error")) == failures(relay) == len(broken)
        assert connection_id(player, host) == before
    assert relay.get("/readyz") == (200, "ready\n")


def test_bytes_that_are_no_text(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys])
    relay.allowed_errors = 1
    relay.sessions_path.write_bytes(b'{"sessions": [\xff]}')
    eventually(lambda: failures(relay) == 1, "the file is refused")
    assert relay.log_lines(level="error")[0]["problem"] == f"{relay.sessions_path}: not UTF-8 text"


def test_a_relay_that_starts_without_its_file(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay(None, ready=False)
    relay.allowed_errors = 1
    eventually(lambda: failures(relay) == 1, "the file is missed")
    assert relay.get("/readyz") == (
        503,
        f"no sessions yet: {relay.sessions_path}: cannot be read: No such file or directory\n",
    )
    # It counts from the start: nothing was known before.
    assert relay.metrics()["relayd_source_age_seconds",] > 0
    with relay.player(keys) as player, relay.host(keys) as host:
        assert (player.ping(), host.ping()) == (CHECKING, CHECKING)
        relay.write_sessions([keys])
        player.ping_until(VALID)
        assert host.ping() == VALID
    assert relay.get("/readyz") == (200, "ready\n")
    assert relay.metrics()["relayd_source_age_seconds",] >= 0


def test_a_file_that_vanishes_ends_nothing(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay([keys])
    relay.allowed_errors = 1
    with relay.player(keys) as player:
        relay.sessions_path.unlink()
        eventually(lambda: failures(relay) == 1, "the file is missed")
        assert player.ping() == VALID
        relay.write_sessions([keys, new_session("more")])
        applied(relay, 2)


def test_a_file_that_lacks_most_sessions_is_believed_only_after_a_while(start_relay: StartRelay) -> None:
    sessions = new_sessions(*(f"session-{number}" for number in range(5)))
    relay = start_relay(sessions, {"source": {"shrink_hold": 1.5}})
    with relay.player(sessions[0]) as player, relay.player(sessions[1]) as stays:
        assert (player.ping(), stays.ping()) == (VALID, VALID)
        relay.write_sessions(sessions[1:3])
        eventually(lambda: relay.log_lines(level="warning"), "the file is doubted")
        assert relay.metrics()["relayd_sessions",] == 5
        assert player.ping() == VALID
        doubted = relay.log_lines(level="warning")[-1]
        assert "lacks 3 of 5 sessions" in doubted["problem"]
        answers = player.ping_until(SESSION_TIMEOUT)
        assert set(answers) <= {VALID, SESSION_TIMEOUT}
        believed = relay.log_lines(event="sessions applied", sessions=2)[0]
        assert seconds_between(doubted, believed) > 1.4
        assert stays.ping() == VALID
        # A doubt is told once, however often the file is looked at meanwhile.
        assert len([line for line in relay.log_lines(level="warning") if "lacks" in str(line)]) == 1


def test_a_file_that_is_restored_in_time_ends_nothing(start_relay: StartRelay) -> None:
    """And the clock begins anew: two short lapses are not a long one."""
    sessions = new_sessions(*(f"session-{number}" for number in range(4)))
    relay = start_relay(sessions, {"source": {"shrink_hold": 3600}})
    for lapse in (1, 2):
        relay.write_sessions([])
        eventually(lambda lapse=lapse: failures(relay) == lapse, "the file is doubted")  # type: ignore[misc]
        relay.write_sessions(sessions)
        eventually(
            lambda lapse=lapse: len(relay.log_lines(event="session file followed again")) == lapse,  # type: ignore[misc]
            "the file is believed again",
        )
        assert relay.metrics()["relayd_sessions",] == 4


def test_losing_half_is_believed_at_once(start_relay: StartRelay) -> None:
    sessions = new_sessions(*(f"session-{number}" for number in range(4)))
    relay = start_relay(sessions, {"source": {"shrink_hold": 3600}})
    relay.write_sessions(sessions[:2])
    applied(relay, 2)


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    first, second = (datetime.fromisoformat(line["timestamp"]) for line in (earlier, later))
    return (second - first).total_seconds()


def test_sighup_reads_again(start_relay: StartRelay) -> None:
    first, second = new_sessions("first", "second")
    relay = start_relay([first], SELDOM)
    with relay.player(second) as player:
        relay.write_sessions([first, second])
        assert player.ping() == INVALID
        relay.process.send_signal(signal.SIGHUP)
        player.ping_until(VALID)


def test_sighup_while_there_is_no_file(start_relay: StartRelay, keys: SessionKeys) -> None:
    relay = start_relay(None, SELDOM, ready=False)
    relay.allowed_errors = 1
    eventually(lambda: failures(relay) == 1, "the file is missed")
    relay.write_sessions([keys])
    relay.process.send_signal(signal.SIGHUP)
    eventually(lambda: relay.get("/readyz")[0] == 200, "the relay is ready")


def test_revoked_users_and_deleted_sessions_are_cut_off_and_nobody_else(start_relay: StartRelay) -> None:
    playing, deleted = new_sessions("playing", "deleted")
    relay = start_relay([playing, deleted])
    with (
        relay.host(playing) as host,
        relay.player(playing, 0) as revoked,
        relay.player(playing, 1) as stays,
        relay.player(deleted) as gone,
    ):
        assert {host.ping(), gone.ping()} == {VALID}
        revoked_id, stays_id = connection_id(revoked, host), connection_id(stays, host)
        relay.write_sessions([playing._replace(users=(playing.users[0], playing.users[2]))])
        applied(relay, 1)
        assert revoked.ping() == INVALID
        assert gone.ping() == SESSION_TIMEOUT
        revoked.say(OPENS_CONNECTION)
        assert revoked.receive() == INVALID
        host.say(revoked_id, b"are you there")
        host.say(stays_id, b"are you there")
        assert stays.hear() == b"are you there"
        assert revoked.received_by_now() == []
        assert connection_id(stays, host) == stays_id

        # Let in again, the user is somebody new to the host.
        relay.write_sessions([playing])
        revoked.ping_until(VALID)
        assert connection_id(revoked, host) != revoked_id
        assert connection_id(stays, host) == stays_id


def test_a_revoked_host_leaves_the_place_to_another(start_relay: StartRelay) -> None:
    keys = new_session("hosted", players=2)
    relay = start_relay([keys])
    with relay.host(keys) as host, relay.player(keys, 1) as player, relay.host(keys, keys.players[0]) as successor:
        assert host.ping() == VALID
        found = connection_id(player, host)
        relay.write_sessions([keys._replace(users=keys.users[1:])])
        host.ping_until(INVALID)
        player.say(b"nobody is there")
        assert player.ping() == VALID
        host.say(found, b"still here?")
        assert host.receive() == INVALID
        # At once: it is gone, not silent.
        assert successor.ping() == VALID
        assert connection_id(player, successor) == found
        assert player.received_by_now() == []
        assert host.received_by_now() == []


def test_a_session_gets_another_token(start_relay: StartRelay) -> None:
    old = new_session("renewed")
    new = old._replace(token=new_session("other").token)
    relay = start_relay([old])
    with relay.player(old) as before, relay.player(new) as after:
        assert (before.ping(), after.ping()) == (VALID, INVALID)
        relay.write_sessions([new])
        after.ping_until(VALID)
        assert before.ping() == SESSION_TIMEOUT
