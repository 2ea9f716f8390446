"""Rates from the difference of two looks at a relay."""

from typing import Any

import pytest
from rich.console import Console

from relayd.admin.answers import FastPathInterface, FastPathStatus, RelayStatus, SessionSummary
from relayd.commands.top import Look, page, per_second


def counts(**verdicts: int) -> dict[str, dict[str, int]]:
    return {verdict: {"datagrams": number, "bytes": number * 100} for verdict, number in verdicts.items()}


def look(time_seconds: float, server: dict[str, Any], client: dict[str, Any], *sessions: dict[str, Any]) -> Look:
    status = {
        "time_seconds": time_seconds,
        "ports": {"server": server, "client": client},
        "draining": False,
        "ready": True,
        "sessions": 5,
        "active_sessions": len(sessions),
        "users": {"authorized": 9, "host": 1, "player": 2},
        "source": {"age_seconds": 0.5, "problem": None, "failures": 0},
        "fast_path": None,
    }
    return Look(
        RelayStatus.model_validate({"version": "1", "instance": "run", **status}),
        {session["session_id"]: SessionSummary.model_validate(session) for session in sessions},
    )


def losing(time_seconds: float, lost: int, problem: str = "") -> Look:
    """A look at a relay with a fast path on one interface."""
    at = look(time_seconds, counts(forwarded=100), counts())
    eth0 = FastPathInterface(name="eth0", state="loses", lost=lost, problem=problem, way_out="")
    kernel = FastPathStatus(up=not problem, bindings=2, forwarded=100, lost=lost, interfaces=[eth0])
    return Look(at.status.model_copy(update={"fast_path": kernel}), {})


def session(session_id: str, datagrams: int, dropped: int = 0) -> dict[str, Any]:
    way = {"datagrams": datagrams, "bytes": datagrams * 100}
    return {
        "session_id": session_id,
        "users": 3,
        "host_bound": True,
        "players_bound": 2,
        "to_host": way,
        "to_player": way,
        "dropped": dropped,
    }


def test_rates_by_direction_and_verdict() -> None:
    before = look(10.0, counts(forwarded=100, answered=10), counts(forwarded=200, unknown_pair=5))
    after = look(12.0, counts(forwarded=300, answered=14), counts(forwarded=210, unknown_pair=5, too_long=8))
    shown = per_second(before, after)
    assert shown["to_host"] == {"datagrams_per_second": 5.0, "bytes_per_second": 500.0}
    assert shown["to_player"] == {"datagrams_per_second": 100.0, "bytes_per_second": 10_000.0}
    assert shown["answered_per_second"] == 2.0
    assert shown["dropped_per_second"] == {"too_long": 4.0}
    assert shown["dropped_in_all"] == {"too_long": 8, "unknown_pair": 5}
    assert shown["sessions_in_table"] == 5


def test_sessions_by_what_goes_through_them_now_and_not_ever() -> None:
    before = look(0.0, {}, {}, session("old and quiet", 1_000_000), session("busy", 100))
    after = look(1.0, {}, {}, session("old and quiet", 1_000_001), session("busy", 150, 3), session("just began", 20))
    shown = per_second(before, after)["sessions"]
    assert [row["session_id"] for row in shown] == ["busy", "just began", "old and quiet"]
    assert shown[0]["to_host"] == {"datagrams_per_second": 50.0, "bytes_per_second": 5000.0}
    assert shown[0]["dropped_per_second"] == 3.0


def test_a_relay_that_began_anew_shows_no_negative_rates() -> None:
    before = look(100.0, counts(forwarded=1000), counts(), session("game", 1000))
    after = look(101.0, counts(forwarded=10), counts(), session("game", 10))
    shown = per_second(before, after)
    assert shown["to_player"]["datagrams_per_second"] == 10.0
    assert shown["sessions"][0]["to_host"]["datagrams_per_second"] == 10.0


def test_what_an_interface_lost_is_neither_nothing_nor_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    shown = per_second(losing(10.0, 7), losing(12.0, 107, "eth0 lost 107 datagrams: the sockets serve"))
    assert shown["lost_per_second"] == 50.0
    Console(width=200, highlight=False).print(page(shown, 5))
    text = capsys.readouterr().out
    assert "dropped     50/s lost by interfaces, of what is counted above" in text
    assert "fast path   not on, 2 bindings served" in text
    assert "            eth0 lost 107 datagrams: the sockets serve" in text


def test_a_fast_path_that_is_on_some_interfaces_is_not_off(capsys: pytest.CaptureFixture[str]) -> None:
    at = losing(12.0, 7, "eth0 loses")
    kernel = at.status.fast_path
    assert kernel is not None
    others = [FastPathInterface(name=name, state="forwards", lost=0, problem="", way_out="") for name in ("v1", "v2")]
    kernel.interfaces.extend(others)
    Console(width=200, highlight=False).print(page(per_second(at, at), 5))
    assert "fast path   on 2 of 3 interfaces, 2 bindings served" in capsys.readouterr().out


def test_a_fast_path_that_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=200, highlight=False).print(page(per_second(losing(10.0, 7), losing(12.0, 7)), 5))
    text = capsys.readouterr().out
    assert "dropped     nothing" in text
    assert "fast path   on, 2 bindings served" in text
