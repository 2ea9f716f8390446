"""Tokens are never shown in full. Every relay of all tests is looked at when it ends; here all happens at once."""

import json
from pathlib import Path

from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, forms_of, new_session, new_sessions, replace_text
from tests.integration.conftest import StartRelay
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID
from tests.integration.waiting import eventually


def forms_of_all(session: SessionKeys) -> list[str]:
    return [form for token in (session.token, *session.users) for form in forms_of(token)]


def test_nothing_that_a_relay_says_shows_a_token(start_relay: StartRelay) -> None:
    live, leaves = new_sessions("live", "leaves")
    relay = start_relay(
        [live, leaves],
        {"limits": {"rebind_after": 0, "host_timeout": 0, "user_timeout": 0.3}, "log": {"level": "debug"}},
    )
    with (
        relay.host(live) as host,
        relay.player(live) as player,
        relay.player(live) as moved,
        relay.host(live, live.players[1]) as successor,
        relay.player(leaves) as left,
    ):
        assert {host.ping(), left.ping()} == {VALID}
        player.say(OPENS_CONNECTION)
        host.hear()
        moved.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        assert successor.ping() == VALID
        successor.say(connection_id ^ 1, GOES_ON)
        relay.write_sessions([live._replace(users=live.users[:2])])
        happened = (
            "user bound",
            "user moved to another address",
            "player began a new connection",
            "host unbound, another user took over",
            "user unbound, no longer in the session",
            "user unbound, silent for too long",
        )
        eventually(lambda: all(relay.log_lines(event=event) for event in happened), "all of that is logged")
    said = [relay.get(path)[1] for path in ("/metrics", "/v1/sessions", "/v1/sessions/live", "/readyz", "/v1/drain")]
    config = ("--config", str(relay.config_path))
    for arguments in (("sessions",), ("session", "live"), ("session", "live", "--json"), ("check",)):
        done = relayd(*arguments, *config)
        said += [done.stdout, done.stderr]
    everything = "\n".join((*said, relay.stdout, relay.stderr)).lower()
    assert "live" in everything
    assert [form for form in (*forms_of_all(live), *forms_of_all(leaves)) if form in everything] == []


def broken_files(good: SessionKeys, bad: SessionKeys) -> dict[str, object]:
    """Mistakes next to which a token stands in the file."""
    session = bad.as_json()
    return {
        "token as text": {**session, "authorization_token": str(bad.token)},
        "token in hexadecimal": {**session, "authorization_token": f"{bad.token:x}"},
        "token too large": {**session, "authorization_token": bad.token << 32},
        "token with a fraction": {**session, "authorization_token": bad.token + 0.5},
        "token in a list": {**session, "authorization_token": [bad.token]},
        "user token as text": {**session, "session_users": [{"authorization_token": str(bad.host)}]},
        "users as bare tokens": {**session, "session_users": list(bad.users)},
        "users as one token": {**session, "session_users": bad.host},
        "users by token": {**session, "session_users": {str(bad.host): {}}},
        "session as a bare token": bad.token,
        "session as text": str(bad.token),
        "token of another session": {**session, "authorization_token": good.token},
        "the same user twice": {**session, "session_users": [{"authorization_token": bad.host}] * 2},
    }


def test_what_is_said_of_a_broken_session_file_shows_no_token(start_relay: StartRelay) -> None:
    good, bad = new_sessions("good", "bad")
    relay = start_relay([good])
    broken = broken_files(good, bad)
    relay.allowed_errors = len(broken)
    for number, mistake in enumerate(broken.values(), 1):
        # Each begins on another line: the same words twice would be told once.
        replace_text(relay.sessions_path, "\n" * number + json.dumps({"sessions": [good.as_json(), mistake]}))
        eventually(
            lambda number=number: len(relay.log_lines(level="error")) == number,  # type: ignore[misc]
            "the file is refused",
        )
    said = [line["problem"] for line in relay.log_lines(level="error")]
    shown = {
        kind: problem
        for kind, problem in zip(broken, said, strict=True)
        if any(form in problem for form in (*forms_of_all(good), *forms_of_all(bad)))
    }
    assert shown == {}


def test_check_shows_no_token_either(tmp_path: Path) -> None:
    session = new_session("checked")
    text = json.dumps({"sessions": [{**session.as_json(), "session_users": list(session.users)}]})
    replace_text(tmp_path / "sessions.json", text)
    done = relayd("check", "--config", str(write_config(tmp_path)))
    assert_one_clear_line(done, 78, "sessions[0].session_users[0]: ")
    assert [form for form in forms_of_all(session) if form in done.stdout + done.stderr] == []
