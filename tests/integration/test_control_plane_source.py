"""A relay that follows a control plane, whatever that one does."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.ports import free_ports
from tests.integration import stand_in as behaviours
from tests.integration.config import Sections, SessionKeys, new_session, new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import CHECKING, GOES_ON, INVALID, OPENS_CONNECTION, SESSION_TIMEOUT, VALID
from tests.integration.relay_process import RelayProcess
from tests.integration.stand_in import Misbehaviour, StandIn, relay_session
from tests.integration.waiting import eventually


@pytest.fixture(params=[True, False], ids=["heartbeats", "public list"])
def stand_in(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn(nodes=request.param) as one:
        yield one


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def public() -> Iterator[StandIn]:
    with StandIn() as one:
        yield one


def following(stand_in: StandIn, **source: object) -> Sections:
    return {"source": {"kind": "control_plane", "url": stand_in.url, "shrink_hold": 3600.0, "timeout": 0.5, **source}}


def name(stand_in: StandIn, relay: RelayProcess, *sessions: SessionKeys, port_offset: int = 0) -> None:
    """Adds these sessions to the stand-in, as sessions of this relay unless ports are moved."""
    ports = relay.settings["relay"]
    for keys in sessions:
        stand_in.sessions.append(
            relay_session(keys, "127.0.0.1", ports["server_port"] + port_offset, ports["client_port"] + port_offset)
        )
    stand_in.changed()


def forget(stand_in: StandIn, keys: SessionKeys) -> None:
    stand_in.sessions = [one for one in stand_in.sessions if one["session_id"] != keys.session_id]
    stand_in.removed.append(keys.session_id)
    stand_in.changed()


def failures(relay: RelayProcess) -> float:
    return relay.metrics()["relayd_source_failures_total",]


def assert_plays(relay: RelayProcess, keys: SessionKeys) -> None:
    with relay.host(keys) as host, relay.player(keys) as player:
        host.ping_until(VALID)
        player.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        connection_id, payload = host.hear()
        assert payload == OPENS_CONNECTION
        host.say(connection_id, b"hello back")
        assert player.hear() == b"hello back"


def test_sessions_come_change_and_go(start_relay: StartRelay, stand_in: StandIn) -> None:
    relay = start_relay(None, following(stand_in))
    first, second, third, fourth = new_sessions("first", "second", "third", "fourth")
    name(stand_in, relay, first, second, third, fourth)
    for keys in (first, second, third, fourth):
        assert_plays(relay, keys)
    with relay.player(first) as leaver, relay.player(second) as stayer:
        leaver.ping_until(VALID)
        stayer.ping_until(VALID)
        forget(stand_in, first)
        leaver.ping_until(SESSION_TIMEOUT)
        assert stayer.ping() == VALID


def test_a_relay_takes_only_its_own_sessions_from_a_public_list(start_relay: StartRelay, public: StandIn) -> None:
    relay = start_relay(None, following(public))
    mine, others = new_sessions("mine", "others")
    name(public, relay, others, port_offset=7)
    name(public, relay, mine)
    assert_plays(relay, mine)
    with relay.player(others) as stranger:
        stranger.ping_until(INVALID)
    assert [session["session_id"] for session in relay.get_json("/v1/sessions")["sessions"]] == ["mine"]
    eventually(lambda: public.answered(304) >= 2, "an unchanged list is not sent again")


@pytest.mark.parametrize(
    "misbehaviour",
    [behaviours.empty, behaviours.garbage, behaviours.wrong_shape, behaviours.server_error],
    ids=lambda misbehaviour: misbehaviour.__name__,
)
def test_the_table_stays_whatever_is_answered(
    start_relay: StartRelay, stand_in: StandIn, misbehaviour: Misbehaviour
) -> None:
    relay = start_relay(None, following(stand_in))
    keys, later = new_sessions("playing", "later")
    name(stand_in, relay, keys)
    with relay.host(keys) as host, relay.player(keys) as player:
        host.ping_until(VALID)
        player.ping_until(VALID)
        player.say(GOES_ON)
        connection_id, _ = host.hear()
        stand_in.misbehaviour = misbehaviour
        eventually(lambda: failures(relay) >= 2, "the relay has asked again and again")
        assert player.ping() == VALID
        player.say(GOES_ON)
        assert host.hear() == (connection_id, GOES_ON)
        stand_in.misbehaviour = None
        name(stand_in, relay, later)
        assert_plays(relay, later)
        assert player.ping() == VALID


@pytest.mark.parametrize(
    "misbehaviour", [behaviours.hang, behaviours.trickle], ids=lambda misbehaviour: misbehaviour.__name__
)
def test_the_table_stays_while_no_answer_comes(
    start_relay: StartRelay, stand_in: StandIn, misbehaviour: Misbehaviour
) -> None:
    relay = start_relay(None, following(stand_in))
    keys, later = new_sessions("playing", "later")
    name(stand_in, relay, keys)
    with relay.player(keys) as player:
        player.ping_until(VALID)
        before = failures(relay)
        stand_in.misbehaviour = misbehaviour
        eventually(lambda: failures(relay) > before, "the relay has given up waiting")
        assert player.ping() == VALID
        stand_in.misbehaviour = None
        name(stand_in, relay, later)
        assert_plays(relay, later)


def test_a_control_plane_that_is_gone_is_not_noticed_by_players(start_relay: StartRelay, stand_in: StandIn) -> None:
    relay = start_relay(None, following(stand_in))
    keys, later = new_sessions("playing", "later")
    name(stand_in, relay, keys)
    with relay.player(keys) as player:
        player.ping_until(VALID)
        stand_in.close()
        eventually(lambda: failures(relay) >= 2, "the relay has asked in vain")
        assert player.ping() == VALID
        assert relay.get("/readyz")[0] == 200
        stand_in.open()
        name(stand_in, relay, later)
        assert_plays(relay, later)
        assert player.ping() == VALID


def test_an_empty_answer_is_believed_once_it_has_stayed_so(start_relay: StartRelay, stand_in: StandIn) -> None:
    relay = start_relay(None, following(stand_in, shrink_hold=0.5))
    keys = new_session("playing")
    name(stand_in, relay, keys)
    with relay.player(keys) as player:
        player.ping_until(VALID)
        stand_in.misbehaviour = behaviours.empty
        player.ping_until(SESSION_TIMEOUT)
    assert failures(relay) >= 1


def test_a_relay_asks_again_no_sooner_than_it_was_told(start_relay: StartRelay, stand_in: StandIn) -> None:
    relay = start_relay(None, following(stand_in))
    stand_in.misbehaviour = behaviours.come_back_later
    eventually(lambda: stand_in.answered(503) >= 2, "the relay came back")
    assert failures(relay) >= 1
    first, second = [at for at, _, status in stand_in.requests if status == 503][:2]
    assert second - first >= 2.0


def test_the_last_good_sessions_serve_while_the_control_plane_is_away(
    start_relay: StartRelay, stand_in: StandIn, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    overrides: Sections = {**following(stand_in), "state": {"directory": str(state)}}
    relay = start_relay(None, overrides)
    keys, later = new_sessions("playing", "later")
    name(stand_in, relay, keys)
    assert_plays(relay, keys)
    relay.stop()
    kept = state / "last-good-sessions.json"
    assert kept.stat().st_mode & 0o077 == 0, "the file holds tokens"

    stand_in.close()
    again = start_relay(None, overrides)
    assert_plays(again, keys)
    stand_in.sessions = [
        relay_session(keys, "127.0.0.1", again.settings["relay"]["server_port"], again.settings["relay"]["client_port"])
    ]
    stand_in.open()
    name(stand_in, again, later)
    assert_plays(again, later)
    assert_plays(again, keys)


def test_a_game_that_the_last_good_sessions_lack_goes_on_after_a_crash(
    start_relay: StartRelay, stand_in: StandIn, tmp_path: Path, stack: ExitStack
) -> None:
    """It began a moment before, so that there was no time to write it down."""
    state = tmp_path / "state"
    server_port, client_port = free_ports(2)
    ports = {"server_port": server_port, "client_port": client_port}
    overrides: Sections = {**following(stand_in), "state": {"directory": str(state)}, "relay": ports}
    relay = RelayProcess(tmp_path, None, overrides)
    stack.callback(relay.kill)
    relay.__enter__()
    older, young = new_sessions("older", "young")
    name(stand_in, relay, older)
    last_good = state / "last-good-sessions.json"
    eventually(lambda: last_good.exists() and "older" in last_good.read_text(), "it is written down")
    written = last_good.read_bytes()
    name(stand_in, relay, young)
    with relay.host(young) as host, relay.player(young) as player:
        host.ping_until(VALID)
        player.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        relay.kill()
        last_good.write_bytes(written)
        again = start_relay(None, overrides)
        eventually(lambda: again.metrics()["relayd_sessions",] == 2, "the control plane is followed")
        player.say(b"still here")
        assert host.hear() == (connection_id, b"still here")


@pytest.mark.parametrize(
    "damage", [b"", b'{"sessions": [', b"\xff\xff", b'{"epoch": 7, "sessions": [{"session_id": ""}]}']
)
def test_a_damaged_file_of_last_good_sessions_is_not_fatal(
    start_relay: StartRelay, stand_in: StandIn, tmp_path: Path, damage: bytes
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "last-good-sessions.json").write_bytes(damage)
    relay = start_relay(None, {**following(stand_in), "state": {"directory": str(state)}})
    keys = new_session("playing")
    name(stand_in, relay, keys)
    assert_plays(relay, keys)
    assert relay.log_lines(event="last good sessions not used")


def test_a_player_faster_than_the_sync_is_looked_up(start_relay: StartRelay, public: StandIn) -> None:
    """With an hour between two looks of its own accord, only a look-up can let the player in in time."""
    relay = start_relay(None, following(public, poll_interval=3600.0))
    keys = new_session("fast")
    with relay.player(keys) as player:
        answers = player.ping_until(INVALID)
        assert set(answers[:-1]) <= {CHECKING}
        name(public, relay, keys)
        # The no is forgotten after some seconds, and the question asked again.
        player.ping_until(VALID)


def test_many_unknown_players_make_few_questions(start_relay: StartRelay, public: StandIn) -> None:
    relay = start_relay(None, following(public, poll_interval=60.0))
    eventually(lambda: public.answered(200) >= 1, "the first look")
    before = len(public.requests)
    strangers = new_session("strangers", players=200)
    for number in range(200):
        with relay.player(strangers, number) as player:
            assert player.ping() == CHECKING
    # Five a second at most, and 200 PINGs one after another take far less than the ten seconds that would allow this.
    assert len(public.requests) - before <= 50


def test_a_session_that_ends_here_is_reported(start_relay: StartRelay) -> None:
    with StandIn(nodes=True) as stand_in:
        relay = start_relay(None, {**following(stand_in), "limits": {"session_idle_timeout": 0.3}})
        keys = new_session("idle")
        name(stand_in, relay, keys)
        eventually(lambda: any(beat["ended"] == ["idle"] for beat in stand_in.heartbeats), "the end is reported")


def test_a_heartbeat_says_how_the_relay_fares(start_relay: StartRelay) -> None:
    with StandIn(nodes=True) as stand_in:
        relay = start_relay(
            None, {**following(stand_in), "relay": {"id": "relay-7", "attributes": {}, "latitude": 48.9}}
        )
        keys = new_session("counted")
        name(stand_in, relay, keys)
        with relay.player(keys) as player:
            player.ping_until(VALID)
            relay.request("POST", "/v1/drain")
            eventually(lambda: stand_in.heartbeats[-1]["draining"], "the drain is told")
            beat = stand_in.heartbeats[-1]
        assert beat["load"] == 1
        assert (beat["epoch"], beat["revision"]) == (stand_in.epoch, stand_in.revision)
        assert beat["latitude"] == 48.9
        assert beat["server_port"] == relay.settings["relay"]["server_port"]
        assert any(path.startswith("PUT /v1/relays/nodes/relay-7?") for _, path, _ in stand_in.requests)


def test_a_refused_key_is_said_where_it_is_looked_for(start_relay: StartRelay, stand_in: StandIn) -> None:
    stand_in.misbehaviour = lambda handler: handler.reply(401, {"message": "no"})
    relay = start_relay(None, following(stand_in), ready=False)
    eventually(lambda: "source.token_file" in relay.get("/readyz")[1], "the relay says why it is not ready")
    assert relay.get("/readyz")[0] == 503


def test_the_files_first_line_says_which_state_it_is(start_relay: StartRelay, tmp_path: Path) -> None:
    with StandIn(nodes=True) as stand_in:
        state = tmp_path / "state"
        relay = start_relay(None, {**following(stand_in), "state": {"directory": str(state)}})
        keys = new_session("kept")
        name(stand_in, relay, keys)
        assert_plays(relay, keys)
        relay.stop()
        kept = json.loads((state / "last-good-sessions.json").read_text(encoding="utf-8"))
        assert (kept["epoch"], kept["revision"]) == (stand_in.epoch, stand_in.revision)
