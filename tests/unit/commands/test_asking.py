"""Commands that ask a running relay and print what it says: for people, and for machines."""

import json
from typing import Any

import httpx
import pytest

from relayd.log import short_token
from tests.support.command_line import AskedRelay, CommandLine
from tests.support.relays import ALICE, ALICE_AT, HOST, SESSION, spec


def play(asked: AskedRelay) -> None:
    relay = asked.world.relay
    relay.host_pings()
    relay.player_pings()
    relay.player_sends()
    relay.player_sends(user=4711)


def test_where_no_relay_answers_that_is_said(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.runs = False
    for command in (["sessions"], ["session", "game"], ["explain", "1"], ["top"], ["drain"], ["upgrade"]):
        done = relayd(*command)
        assert done.status == 69, command
        assert "no relay answers on 127.0.0.1:9464" in done.err
        assert len(done.err.splitlines()) == 1


# sessions, session ------------------------------------------------------------------------------------------


def test_sessions_are_a_line_each(relayd: CommandLine, asked: AskedRelay) -> None:
    play(asked)
    done = relayd("sessions")
    assert done.status == 0
    head, row = done.out.splitlines()
    assert head.split()[0] == "session"
    assert row.split() == ["game", "yes", "1", "3", "1", "0", "1"]


def test_sessions_for_machines_are_all_of_all_pages(
    relayd: CommandLine, asked: AskedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.client.admin._PAGE", 2)
    asked.world.relay.apply(*(spec(f"game-{number}", SESSION + number) for number in range(5)))
    shown = json.loads(relayd("sessions", "--json").out)["sessions"]
    assert [one["session_id"] for one in shown] == [f"game-{number}" for number in range(5)]
    assert asked.asked == ["GET /v1/sessions"] * 3


def many(asked: AskedRelay, number: int) -> None:
    asked.world.relay.apply(*(spec(f"game-{at}", SESSION + at) for at in range(number)))


def listed(out: str) -> list[str]:
    """The sessions of a table, in its order."""
    return [line.split()[0] for line in out.splitlines() if line.strip().startswith("game-")]


def test_thousands_of_sessions_are_counted_and_not_all_shown(
    relayd: CommandLine, asked: AskedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.client.admin._PAGE", 100)
    many(asked, 230)
    out = relayd("sessions").out
    assert listed(out) == [f"game-{number}" for number in range(50)]
    assert out.splitlines()[-1].startswith("and 180 more: --limit 0 shows all")
    assert asked.asked == ["GET /v1/sessions"], "no more is asked for than is shown"
    assert len(listed(relayd("sessions", "--limit", "0").out)) == 230
    few = relayd("sessions", "--limit", "2").out
    assert (listed(few), "and 228 more" in few) == (["game-0", "game-1"], True)
    shown = json.loads(relayd("sessions", "--json", "--limit", "120").out)
    assert (shown["total_count"], len(shown["sessions"])) == (230, 120)


def test_as_many_as_are_shown_are_all(relayd: CommandLine, asked: AskedRelay) -> None:
    many(asked, 50)
    out = relayd("sessions").out
    assert (len(listed(out)), "more" in out) == (50, False)


def test_only_those_that_somebody_plays_in(relayd: CommandLine, asked: AskedRelay) -> None:
    many(asked, 60)
    asked.world.relay.host_pings(session=SESSION + 55)
    out = relayd("sessions", "--active").out
    assert (listed(out), "more" in out) == (["game-55"], False)
    asked.world.relay.apply(spec("game-1", SESSION + 1))
    assert relayd("sessions", "--active").out == "nobody plays\n"


def test_those_with_most_traffic_come_first_if_that_is_asked(relayd: CommandLine, asked: AskedRelay) -> None:
    many(asked, 60)
    relay = asked.world.relay
    for at, times in ((58, 1), (59, 3), (7, 2)):
        relay.host_pings(session=SESSION + at, source=("198.51.100.1", 1000 + at))
        relay.player_pings(session=SESSION + at, source=("198.51.100.2", 1000 + at))
        for _ in range(times):
            relay.player_sends(session=SESSION + at, source=("198.51.100.2", 1000 + at))
    out = relayd("sessions", "--sort", "traffic", "--limit", "4").out
    assert listed(out) == ["game-59", "game-7", "game-58", "game-0"]
    assert "and 56 more" in out
    assert listed(relayd("sessions", "--sort", "age", "--limit", "2").out) == ["game-0", "game-1"]


@pytest.mark.parametrize("options", [["--sort", "name"], ["--limit", "-1"], ["--limit", "many"]])
def test_what_no_list_can_be_is_wrong_usage(relayd: CommandLine, asked: AskedRelay, options: list[str]) -> None:
    assert relayd("sessions", *options).status == 64
    assert asked.asked == []


def test_what_stands_in_a_sessions_id_is_shown_as_it_is(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.world.relay.apply(spec("[red]game[/]"))
    assert "[red]game[/]" in relayd("sessions").out


def test_where_there_are_no_sessions_that_is_said(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.world.relay.apply()
    assert relayd("sessions").out == "no sessions\n"


def test_a_session_in_full(relayd: CommandLine, asked: AskedRelay) -> None:
    play(asked)
    asked.sleep(2.0)
    asked.world.relay.player_pings()
    out = relayd("session", "game").out
    assert out.startswith(f"session game, token {short_token(SESSION)}\n")
    player = next(line for line in out.splitlines() if ALICE_AT[0] in line)
    assert f"{ALICE_AT[0]} {ALICE_AT[1]}" in player
    assert short_token(ALICE) in player
    assert "not bound" in out
    assert f"player {short_token(ALICE)}: 2 PINGs, 0.0 % missed" in out
    assert "dropped 1 × unknown_pair" in out
    assert str(ALICE) not in out.replace(short_token(ALICE), "")


def test_a_session_for_machines(relayd: CommandLine, asked: AskedRelay) -> None:
    play(asked)
    shown = json.loads(relayd("session", "game", "--json").out)
    assert (shown["session_id"], shown["drops"]) == ("game", {"unknown_pair": 1})


def test_a_session_that_is_not_there(relayd: CommandLine, asked: AskedRelay) -> None:
    done = relayd("session", "a/b")
    assert done.status == 1
    assert done.out == ""
    assert len(done.err.splitlines()) == 1


# explain ----------------------------------------------------------------------------------------------------


def test_an_explanation_says_what_is_so_and_what_to_do(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.world.source.started(asked.world.relay.now)
    asked.world.relay.host_pings()
    asked.world.relay.player_pings(user=4711)
    out = relayd("explain", "game").out
    assert "user_token_unknown\n" in out
    assert "    → " in out
    assert f"user {short_token(HOST)}, user bound, session game, server port" in out
    found = json.loads(relayd("explain", "game", "--json").out)
    assert "user_token_unknown" in [finding["code"] for finding in found["findings"]]


def test_what_is_over_is_said_to_be_earlier(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.world.source.started(asked.world.relay.now)
    asked.world.relay.host_pings()
    asked.world.relay.player_pings(user=4711)
    asked.sleep(300.0)
    asked.world.source.succeeded(asked.world.relay.now + 300.0)
    assert "user_token_unknown (earlier)\n" in relayd("explain", "game").out


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "1.2.3.4:99999",
            "1.2.3.4:99999 has no port that there is: write one from 1 to 65535, or the IP address alone",
        ),
        ("1.2.3.4:0", "has no port that there is"),
        ("[2001:db8::1]:70000", "has no port that there is"),
        ("1.2.3.4 123456", "has no port that there is"),
        ("1.2.3", "1.2.3 is no IP address: write one as 203.0.113.7, 203.0.113.7:40000"),
        ("1.2.3.4.5", "is no IP address"),
        ("256.1.1.1", "is no IP address"),
        ("1.2.3:4000", "is no IP address"),
        ("1.2.3.4:", "is no IP address"),
        ("10.0.0.0/8", "is no IP address"),
        ("2001:db8:::1", "is no IP address"),
        ("[2001:db8::1", "is no IP address"),
        ("4294967296", "4294967296 is no token: the largest is 4294967295"),
        (" ", "nothing is asked about: write a user token"),
        ("g" * 129, "has 129 characters, and a session's id 128 at most"),
    ],
)
def test_what_cannot_be_is_said_and_not_explained(
    relayd: CommandLine, asked: AskedRelay, target: str, says: str
) -> None:
    for options in ([], ["--json"]):
        done = relayd("explain", target, *options)
        assert (done.status, done.out) == (64, "")
        (line,) = done.err.splitlines()
        assert says in line


@pytest.mark.parametrize("session_id", ["1.2.3", "1.2.3.4:99999", "4294967296", "12:30:45"])
def test_a_session_may_be_called_as_it_likes(relayd: CommandLine, asked: AskedRelay, session_id: str) -> None:
    asked.world.relay.apply(spec(session_id))
    asked.world.relay.host_pings()
    assert relayd("explain", session_id).status == 0
    asked.world.relay.apply()
    assert relayd("explain", session_id).status == 0, "and one that ended too"


# drain ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _drains(asked: AskedRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.commands.drain.time", asked.clock())


@pytest.mark.usefixtures("_drains")
class TestDrain:
    def test_it_begins_and_says_how_far_it_is(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)
        done = relayd("drain")
        assert (done.status, done.out) == (0, "draining: 1 sessions with 2 users still play\n")
        assert asked.world.relay.engine.draining

    def test_it_is_undone(self, relayd: CommandLine, asked: AskedRelay) -> None:
        relayd("drain")
        assert relayd("drain", "--undo").out == "not draining: new games are taken\n"
        assert not asked.world.relay.engine.draining

    def test_for_machines(self, relayd: CommandLine, asked: AskedRelay) -> None:
        shown = json.loads(relayd("drain", "--json").out)
        assert shown == {"draining": True, "active_sessions": 0, "bound_users": 0, "control_plane_told": None}

    def test_it_is_waited_for_until_the_last_has_gone(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)
        asked.later(40.0, asked.world.tick)
        done = relayd("drain", "--wait")
        assert (done.status, done.out) == (0, "draining: nobody plays any more\n")

    def test_it_waits_no_longer_than_it_may(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)
        done = relayd("drain", "--wait", "--limit", "5")
        assert done.status == 1
        assert "still play" in done.out

    def test_one_that_is_undone_meanwhile_is_not_done(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)
        asked.later(3.0, lambda: asked.world.drain.undo() and None)
        done = relayd("drain", "--wait")
        assert (done.status, done.out) == (1, "not draining: new games are taken\n")

    def test_the_control_plane_is_waited_for_too(self, relayd: CommandLine, asked: AskedRelay) -> None:
        asked.world.source.told_draining = False
        done = relayd("drain", "--wait", "--limit", "2")
        assert done.status == 1
        assert done.out == "draining: nobody plays any more, the control plane is being told\n"

    @pytest.mark.parametrize("options", [["--undo", "--wait"], ["--limit", "3"]])
    def test_options_that_contradict_each_other(
        self, relayd: CommandLine, asked: AskedRelay, options: list[str]
    ) -> None:
        assert relayd("drain", *options).status == 64
        assert asked.asked == []


# upgrade ----------------------------------------------------------------------------------------------------


def test_an_upgrade_is_over_when_another_program_answers_and_is_ready(
    relayd: CommandLine, asked: AskedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.commands.upgrade.time", asked.clock())

    def away() -> None:
        asked.runs = False

    def back() -> None:
        asked.runs = True
        asked.world.relay.table.loaded = False
        monkeypatch.setattr("relayd.admin.status._INSTANCE", "another")

    def ready() -> None:
        asked.world.relay.table.loaded = True

    for seconds, work in ((1.0, away), (3.0, back), (5.0, ready)):
        asked.later(seconds, work)
    done = relayd("upgrade")
    assert done.status == 0
    assert "was replaced by" in done.out
    assert asked.asked[0] == "POST /v1/upgrade"
    assert len(asked.asked) >= 4.9 / 0.05


def test_an_upgrade_that_does_not_come_is_said(
    relayd: CommandLine, asked: AskedRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.commands.upgrade.time", asked.clock())
    monkeypatch.setattr("relayd.commands.upgrade._LOOK_SECONDS", 5.0)
    done = relayd("upgrade")
    assert done.status == 1
    assert "was not replaced within 60 s" in done.err


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_successor_that_does_not_answer_this_user_is_not_waited_for(
    relayd: CommandLine, asked: AskedRelay, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """One refusal alone can be that of a port that opened before its socket was looked for."""
    clock = asked.clock()
    monkeypatch.setattr("relayd.commands.upgrade.time", clock)
    began, answer = clock.monotonic(), httpx.request

    def refuse(method: str, url: str, **options: Any) -> httpx.Response:
        if method == "GET" and len(asked.asked) in range(1, 1 + refusals):
            asked.asked.append("refused")
            monkeypatch.setattr("relayd.admin.status._INSTANCE", "another")
            return httpx.Response(403, json={"message": "not served on this port"})
        return answer(method, url, **options)

    monkeypatch.setattr(httpx, "request", refuse)
    done = relayd("upgrade")
    if refusals == 1:
        assert (done.status, done.err) == (0, "")
        return
    assert done.status == 1
    assert "was replaced, and its successor does not answer this user: not served on this port" in done.err
    assert clock.monotonic() - began < 1.0, "on its own clock"


def test_why_there_is_no_upgrade_is_said(relayd: CommandLine, asked: AskedRelay) -> None:
    asked.world.why_no_upgrade = "the relay is draining"
    done = relayd("upgrade")
    assert (done.status, done.err) == (1, "relayd: the relay is draining\n")


# top --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _looks(asked: AskedRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.commands.top.time", asked.clock())


@pytest.mark.usefixtures("_looks")
class TestTop:
    def test_one_look_for_people(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)

        def busy() -> None:
            for _ in range(10):
                asked.world.relay.player_sends()

        asked.later(0.5, busy)
        out = relayd("top").out
        assert out.startswith("running     1 of 1 sessions active, 1 hosts and 1 players of 3 users bound\n")
        assert "to hosts    10 datagrams/s" in out
        assert "dropped     nothing" in out
        assert "fast path   off" in out
        assert out.splitlines()[-1].split()[:3] == ["game", "yes", "1"]

    def test_one_look_for_machines(self, relayd: CommandLine, asked: AskedRelay) -> None:
        play(asked)
        asked.later(0.5, lambda: asked.world.relay.player_sends(user=4711) and None)
        shown = json.loads(relayd("top", "--json", "--interval", "2").out)
        assert shown["seconds"] == 2.0
        assert shown["dropped_per_second"] == {"unknown_pair": 0.5}

    def test_what_is_wrong_is_in_it(self, relayd: CommandLine, asked: AskedRelay) -> None:
        asked.world.source.failed("the file is gone")
        asked.world.relay.engine.draining = True
        out = relayd("top", "--once").out
        assert out.startswith("draining ")
        assert "not read yet, not followed: the file is gone" in out
        assert out.splitlines()[-1] == "nobody plays"

    def test_more_sessions_than_there_is_room_for_are_counted(self, relayd: CommandLine, asked: AskedRelay) -> None:
        relay = asked.world.relay
        relay.apply(*(spec(f"game-{number:02}", SESSION + number) for number in range(25)))
        for number in range(25):
            relay.host_pings(session=SESSION + number, source=("198.51.100.1", 1000 + number))
        out = relayd("top").out
        assert "and 5 more" in out
        assert "game-19" in out
        assert "game-20" not in out
