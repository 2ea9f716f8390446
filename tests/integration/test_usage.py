"""Usage records of real relays add up to what their peers heard, whatever happens to relay and control plane."""

import asyncio
import functools
import json
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import usage
from relayd.core.usage import Counts
from tests.integration.config import Sections, SessionKeys, new_session
from tests.integration.control_plane.process import Server
from tests.integration.fast_path import bpf_file_system, own_network
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

KILLS = 5
IN_FLIGHT = 64
"""Datagrams that the thread in C takes in at a time."""
ROUNDS = 5
OFTEN = {"usage": {"interval": 0.1}}


# Crashes -----------------------------------------------------------------------------------------------------


def over_kills(folder: Path, way: usage.Way, seed: int) -> usage.Outcome:
    outcome = asyncio.run(usage.run(folder, way, KILLS, random.Random(seed)))
    assert outcome.recorded == outcome.metrics, f"seed {seed}"
    return outcome


@needs_kernel
def test_records_of_the_fast_path_add_up_over_kills(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    with own_network(), bpf_file_system(tmp_path / "bpf") as pins:
        way = usage.KERNEL._replace(fast_path={**usage.KERNEL.fast_path, "pin_directory": str(pins / "relayd")})
        outcome = over_kills(tmp_path, way, seed)
    assert outcome.recorded == outcome.heard, f"seed {seed}"


@pytest.mark.parametrize("way", [usage.THREAD, usage.PYTHON], ids=lambda way: way.name)
def test_records_of_the_sockets_add_up_over_kills(way: usage.Way, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    outcome = over_kills(tmp_path, way, seed)
    for recorded, heard in zip(outcome.recorded[::2], outcome.heard[::2], strict=True):
        assert abs(recorded - heard) <= KILLS * IN_FLIGHT, f"seed {seed}"


# With a control plane ----------------------------------------------------------------------------------------


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "control-plane").mkdir()
    server = Server(tmp_path / "control-plane")
    try:
        server.start()
        yield server
    finally:
        server.close()


def following(server: Server) -> Sections:
    source = {"kind": "control_plane", "url": server.url, "token_file": str(server.directory / "key")}
    return {"source": source, **OFTEN}


def created(server: Server) -> SessionKeys:
    session = server.create("1.1.1.1", "1.1.1.2")
    found = eventually(lambda: session_if_ready(server, session), "the session is ready")
    users = tuple(user["authorization_token"] for user in found["session_users"])
    return SessionKeys(found["session_id"], found["authorization_token"], users)


def session_if_ready(server: Server, session: dict[str, Any]) -> dict[str, Any]:
    found = server.get(session)
    return found if found["ready"] else {}


def play(relay: RelayProcess, keys: SessionKeys, until: Callable[[], bool] = lambda: True) -> Counts:
    """Some rounds there and back, and more until that is so. Returns what was forwarded."""
    with relay.host(keys) as host, relay.player(keys) as player:
        host.ping_until(VALID)
        player.ping_until(VALID)
        sent: list[list[bytes]] = [[], []]
        while not sent[0] or not until():
            for _ in range(ROUNDS):
                sent[0].append(player.say(OPENS_CONNECTION))
                sent[1].append(host.say(host.hear()[0], b"welcome"))
                player.hear()
    return Counts(len(sent[0]), sum(map(len, sent[0])), len(sent[1]), sum(map(len, sent[1])))


def used(server: Server, keys: SessionKeys) -> dict[str, Any] | None:
    answer = server.client.get("/v1/relays/usage", params={"session_id": keys.session_id})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["usage"]
    return found[0] if found else None


def counts_of(shown: dict[str, Any] | None) -> Counts:
    if shown is None:
        return Counts()
    return Counts(
        *(shown[direction][unit] for direction in ("to_host", "to_player") for unit in ("datagrams", "bytes"))
    )


def recorded(server: Server, keys: SessionKeys, expected: Counts, ended: bool = False) -> Callable[[], bool]:
    def probe() -> bool:
        shown = used(server, keys)
        assert expected.at_least(counts_of(shown))
        return shown is not None and counts_of(shown) == expected and shown["ended"] is ended

    return probe


def test_a_game_from_its_beginning_to_its_end(control_plane: Server, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, None, following(control_plane)) as relay:
        keys = created(control_plane)
        forwarded = play(relay, keys)
        eventually(recorded(control_plane, keys, forwarded), "the game that goes on is recorded")
        forwarded = forwarded.plus(play(relay, keys))
        control_plane.client.delete(f"/v1/relays/sessions/{keys.session_id}")
        eventually(recorded(control_plane, keys, forwarded, ended=True), "its end is recorded")
        metrics = relay.metrics()
        assert metrics["relayd_usage_unsent",] == 0
        assert metrics["relayd_usage_records_total", "taken"] == metrics["relayd_usage_records_total", "made"] >= 3
        assert metrics["relayd_datagrams_total", "client", "forwarded"] == forwarded.to_host_datagrams
        assert metrics["relayd_bytes_total", "server", "forwarded"] == forwarded.to_player_bytes


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_that_ends_while_the_relay_is_away(
    control_plane: Server, tmp_path: Path, how: signal.Signals
) -> None:
    settings = {**following(control_plane), "usage": {"interval": 3600}}
    first = RelayProcess(tmp_path, None, settings)
    first.__enter__()
    try:
        keys, going_on = created(control_plane), created(control_plane)
        forwarded, more = play(first, keys), play(first, going_on)
        first.get_json(f"/v1/sessions/{keys.session_id}")
        first.process.send_signal(how)
        first.process.wait()
        control_plane.client.delete(f"/v1/relays/sessions/{keys.session_id}")
        with RelayProcess(tmp_path, None, first.settings):
            eventually(recorded(control_plane, keys, forwarded, ended=True), "the end is recorded")
            control_plane.client.delete(f"/v1/relays/sessions/{going_on.session_id}")
            eventually(recorded(control_plane, going_on, more, ended=True), "and that of the other")
    finally:
        first.kill()


def records_made(relay: RelayProcess) -> float:
    return relay.metrics()["relayd_usage_records_total", "made"]


def more_made(relay: RelayProcess, before: float) -> bool:
    return records_made(relay) > before


def test_the_control_plane_is_away_for_a_while(control_plane: Server, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, None, following(control_plane)) as relay:
        keys = created(control_plane)
        forwarded = play(relay, keys)
        eventually(recorded(control_plane, keys, forwarded), "it was recorded")
        control_plane.kill()
        for _ in range(3):
            made = records_made(relay)
            forwarded = forwarded.plus(play(relay, keys))
            eventually(partial(more_made, relay, made), "a record more")
        control_plane.start()
        eventually(recorded(control_plane, keys, forwarded), "they are taken in the end")
        eventually(lambda: relay.metrics()["relayd_usage_unsent",] == 0, "none waits")


# Without one -------------------------------------------------------------------------------------------------


def lines(relay: RelayProcess) -> list[dict[str, Any]]:
    path = relay.folder / "state" / "usage.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_records_in_a_file(tmp_path: Path) -> None:
    keys = new_session("game")
    with RelayProcess(tmp_path, [keys], OFTEN) as relay:
        forwarded = play(relay, keys)
        relay.write_sessions([])
        last = eventually(lambda: [one for one in lines(relay) if one["kind"] == "stop"], "the end is recorded")[0]
        assert Counts(**last["total"]) == forwarded
        assert (last["session_id"], last["reason"], last["relay"]) == ("game", "removed", "relay-1")
        sums = [Counts(**one["delta"]) for one in lines(relay)]
        assert sum(one.to_host_datagrams for one in sums) == forwarded.to_host_datagrams
        assert [one["sequence"] for one in lines(relay)] == list(range(1, len(sums) + 1))
        assert lines(relay)[0]["kind"] == "start"


def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    keys = new_session("game")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "usage.journal").write_bytes(b"\0 something else")
    with RelayProcess(tmp_path, [keys], OFTEN) as relay:
        assert relay.log_lines(event="the usage journal is not used: a new one begins", level="warning")
        play(relay, keys)
        eventually(lambda: lines(relay), "usage is recorded all the same")
    assert (tmp_path / "state" / "usage.journal.set-aside").exists()


def test_what_was_recorded_before_recording_was_off_for_a_while_is_not_recorded_again(tmp_path: Path) -> None:
    keys = new_session("game")
    with RelayProcess(tmp_path, [keys], OFTEN) as relay:
        forwarded = play(relay, keys)
        eventually(lambda: total(relay) == forwarded, "the game is recorded")
        settings = relay.settings
    with RelayProcess(tmp_path, [keys], {**settings, "usage": {"interval": 0}}) as relay:
        play(relay, keys)
    with RelayProcess(tmp_path, [keys], settings) as relay:
        forwarded = forwarded.plus(play(relay, keys))
        eventually(lambda: total(relay) == forwarded, "it is recorded again")
        relay.write_sessions([])
        eventually(lambda: {one["span"] for one in lines(relay) if one["kind"] == "stop"} == spans(relay), "all ended")
        assert total(relay) == forwarded


def spans(relay: RelayProcess) -> set[str]:
    return {one["span"] for one in lines(relay)}


def total(relay: RelayProcess) -> Counts:
    """Added up as the documentation says: the highest of each span."""
    most = {one["span"]: Counts(**one["total"]) for one in lines(relay)}
    return functools.reduce(Counts.plus, most.values(), Counts())


def test_no_records_are_wanted(tmp_path: Path) -> None:
    keys = new_session("game")
    with RelayProcess(tmp_path, [keys], {"usage": {"interval": 0}}) as relay:
        play(relay, keys)
        assert not any(name[0].startswith("relayd_usage") for name in relay.metrics())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["bindings.state"]
