"""Control plane and two relays as processes of their own, and games that are made over the API and played for real."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relayd.simulation.game import Game, GameKeys
from tests.integration.commands import relayd
from tests.integration.config import Sections
from tests.integration.conftest import StartRelay
from tests.integration.control_plane.process import KEY, Server
from tests.integration.peers import INVALID, SESSION_TIMEOUT, VALID, Host, Player
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "control-plane"
    directory.mkdir()
    server = Server(directory)
    server.start()
    yield server
    server.close()


class Fleet(NamedTuple):
    """A control plane and two relays that follow it."""

    control_plane: Server
    relays: dict[str, RelayProcess]

    def create(self, users: int, **filters: Any) -> dict[str, Any]:
        """A session that its relay has taken."""
        body = {"users": [{"ip": "127.0.0.1"}] * users, **filters}
        answer = self.control_plane.client.post("/v1/relays/sessions", json=body)
        assert answer.status_code == 200, answer.text
        return eventually(lambda: self.ready(answer.json()["session_id"]), "the session is ready")

    def ready(self, session_id: str) -> dict[str, Any]:
        session: dict[str, Any] = self.control_plane.client.get(f"/v1/relays/sessions/{session_id}").json()
        return session if session["ready"] else {}


def following(control_plane: Server, relay_id: str, city: str) -> Sections:
    return {
        "relay": {"id": relay_id, "public_ip": "127.0.0.1"},
        "source": {
            "kind": "control_plane",
            "url": control_plane.url,
            "token_file": str(control_plane.directory / "key"),
            "poll_interval": 1.0,
            "shrink_hold": 10.0,
        },
        "relay.attributes": {"city": city},
    }


@pytest.fixture
def fleet(control_plane: Server, start_relay: StartRelay) -> Fleet:
    assert KEY
    relays = {
        city: start_relay(None, following(control_plane, f"relay-{city}", city)) for city in ("Paris", "Montreal")
    }
    return Fleet(control_plane, relays)


def keys_of(session: dict[str, Any]) -> GameKeys:
    host, *players = (user["authorization_token"] for user in session["session_users"])
    ports = session["relay"]["ports"]
    return GameKeys(
        (session["relay"]["ip"], ports["server"]["port"]),
        (session["relay"]["ip"], ports["client"]["port"]),
        session["authorization_token"],
        host,
        tuple(players),
    )


def player_of(session: dict[str, Any], user_token: int) -> Player:
    return Player(keys_of(session).client_address, user_token, session["authorization_token"])


@asynccontextmanager
async def played(session: dict[str, Any]) -> AsyncIterator[Game]:
    """A game that is being played, with everybody in it; at the end it has to have been flawless."""
    game = Game(keys_of(session))
    playing = asyncio.create_task(game.play())
    await until_sent(game, 10)
    yield game
    game.stop()
    await playing
    assert game.flawless, game.reports()


async def until_sent(game: Game, more: int) -> None:
    """Until every player has sent and received so many messages more."""
    wanted = [(report.sent + more, report.received + more) for report in game.reports()]

    def reached() -> bool:
        return all(
            report.became_valid and report.sent >= sent and report.received >= received
            for report, (sent, received) in zip(game.reports(), wanted, strict=True)
        )

    await asyncio.to_thread(eventually, reached, "everybody plays on")


def has_asked_in_vain(relay: RelayProcess) -> None:
    eventually(lambda: relay.metrics()["relayd_source_failures_total",] >= 1, "the relay has asked in vain")


def test_ports_that_a_nat_maps_are_what_sessions_name(control_plane: Server, start_relay: StartRelay) -> None:
    settings = following(control_plane, "relay-mapped", "Lyon")
    settings["relay"] |= {"public_server_port": 40000, "public_client_port": 40001}
    fleet = Fleet(control_plane, {"Lyon": start_relay(None, settings)})
    session = fleet.create(users=2)
    relay = fleet.relays["Lyon"]
    ports = session["relay"]["ports"]
    assert [(ports[name]["port"], ports[name]["link"]) for name in ("server", "client")] == [
        (40000, f"{session['relay']['host']}:40000"),
        (40001, f"{session['relay']['host']}:40001"),
    ]
    token, host_token = session["authorization_token"], session["session_users"][0]["authorization_token"]
    with Host(relay.address("server"), host_token, token) as host:
        assert host.ping() == VALID
    said = relayd(
        "explain", str(session["session_users"][1]["authorization_token"]), "--config", str(relay.config_path)
    )
    assert "players send to the client port, UDP 40001, the host to the server port, UDP 40000" in said.stdout


def test_a_session_is_played_changed_and_ended(fleet: Fleet) -> None:
    session = fleet.create(users=5)
    client = fleet.control_plane.client

    async def play() -> None:
        async with played(session) as game:
            body = {"session_id": session["session_id"], "user_ip": "198.51.100.7"}
            fifth = client.post("/v1/relays/sessions:authorize-user", json=body)
            assert fifth.status_code == 200, fifth.text
            fifth_token = fifth.json()["session_user"]["authorization_token"]
            with player_of(session, fifth_token) as late:
                await asyncio.to_thread(late.ping_until, VALID)
                body = {"session_id": session["session_id"], "authorization_token": fifth_token}
                assert client.post("/v1/relays/sessions:revoke-user", json=body).status_code == 200
                await asyncio.to_thread(late.ping_until, INVALID)
            await until_sent(game, 10)

    asyncio.run(play())
    with player_of(session, keys_of(session).player_tokens[0]) as player:
        # The game's own socket was heard a moment ago: the move to this one has to wait for its silence.
        player.ping_until(VALID)
        assert client.delete(f"/v1/relays/sessions/{session['session_id']}").status_code == 204
        player.ping_until(SESSION_TIMEOUT)


def test_filters_say_which_relay(fleet: Fleet) -> None:
    for city, relay in fleet.relays.items():
        session = fleet.create(2, filters=[{"field": "city", "values": [city], "filter_type": "any"}])
        assert session["relay"]["ports"]["server"]["port"] == relay.settings["relay"]["server_port"]
        with player_of(session, keys_of(session).player_tokens[0]) as player:
            assert player.ping() == VALID
    body = {"users": ["127.0.0.1"], "filters": [{"field": "city", "values": ["Oslo"], "filter_type": "any"}]}
    answer = fleet.control_plane.client.post("/v1/relays/sessions", json=body).json()
    assert (answer["status"], answer["ready"]) == ("Error", False)
    assert "Oslo" in answer["error"] or "filter" in answer["error"]


def test_a_draining_relay_gets_no_new_session(fleet: Fleet) -> None:
    fleet.relays["Paris"].request("POST", "/v1/drain")
    montreal = fleet.relays["Montreal"].settings["relay"]["server_port"]

    def placed_elsewhere() -> bool:
        in_paris = {"users": ["127.0.0.1"], "filters": [{"field": "city", "values": ["Paris"], "filter_type": "any"}]}
        answer = fleet.control_plane.client.post("/v1/relays/sessions", json=in_paris).json()
        return bool(answer["status"] == "Error")

    eventually(placed_elsewhere, "the control plane knows of the drain")
    for _ in range(3):
        assert fleet.create(2)["relay"]["ports"]["server"]["port"] == montreal


def test_a_game_does_not_notice_that_the_control_plane_is_killed(fleet: Fleet) -> None:
    session = fleet.create(users=5)

    async def play() -> None:
        async with played(session) as game:
            fleet.control_plane.kill()
            for relay in fleet.relays.values():
                await asyncio.to_thread(has_asked_in_vain, relay)
            await until_sent(game, 20)
            await asyncio.to_thread(fleet.control_plane.start)
            another = await asyncio.to_thread(fleet.create, 2)
            with player_of(another, keys_of(another).player_tokens[0]) as player:
                assert await asyncio.to_thread(player.ping) == VALID
            await until_sent(game, 10)

    asyncio.run(play())


def test_an_idle_session_is_gone_at_the_control_plane_too(control_plane: Server, start_relay: StartRelay) -> None:
    overrides = following(control_plane, "relay-idle", "Paris") | {"limits": {"session_idle_timeout": 0.5}}
    fleet = Fleet(control_plane, {"Paris": start_relay(None, overrides)})
    session_id = fleet.control_plane.client.post("/v1/relays/sessions", json={"users": ["127.0.0.1"]}).json()[
        "session_id"
    ]
    eventually(
        lambda: control_plane.client.get(f"/v1/relays/sessions/{session_id}").status_code == 404,
        "the control plane has forgotten the session",
    )
