"""A backup of the control plane's database is restored while games run that it does not know."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.config import Sections
from tests.integration.conftest import StartRelay
from tests.integration.control_plane.process import Server
from tests.integration.control_plane.receiver import Receiver
from tests.integration.peers import DATA, GOES_ON, OPENS_CONNECTION, SESSION_TIMEOUT, VALID, Host, Player, talking
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually

OLD, YOUNG = 50, 5


@pytest.fixture
def backend() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "control-plane"
    directory.mkdir()
    server = Server(directory, webhook_allow_private=True)
    server.start()
    yield server
    server.close()


def following(control_plane: Server) -> Sections:
    return {
        "relay": {"public_ip": "127.0.0.1"},
        "source": {
            "kind": "control_plane",
            "url": control_plane.url,
            "token_file": str(control_plane.directory / "key"),
            "poll_interval": 0.2,
        },
        "limits": {"user_timeout": 600.0},
    }


def listed(control_plane: Server) -> dict[str, dict[str, Any]]:
    """All sessions of the API that are ready."""
    answer = control_plane.client.get("/v1/relays/sessions", params={"limit": 200})
    assert answer.status_code == 200, answer.text
    return {one["session_id"]: one for one in answer.json()["sessions"] if one["ready"]}


def create(control_plane: Server, backend: Receiver, count: int) -> list[dict[str, Any]]:
    """So many sessions, once their relay has them and their backend was told."""
    made = [control_plane.create("127.0.0.1", "127.0.0.1", webhook_url=backend.url)["session_id"] for _ in range(count)]
    eventually(lambda: listed(control_plane).keys() >= set(made), "they are ready")
    eventually(lambda: told(backend).keys() >= set(made), "their backend was told")
    # Else a backup would hold a call as not answered yet, and it would be made again.
    eventually(lambda: "relayd_control_plane_webhooks_waiting 0.0" in metrics(control_plane), "and has answered")
    return [listed(control_plane)[one] for one in made]


def metrics(control_plane: Server) -> str:
    return control_plane.client.get("/metrics").text


def told(backend: Receiver) -> Counter[str]:
    """How often the backend was called about each session."""
    return Counter(json.loads(body)["session_id"] for _, _, body in list(backend.calls))


def keys_of(session: dict[str, Any]) -> tuple[int, list[int]]:
    """The token of a session and those of its users."""
    return session["authorization_token"], [user["authorization_token"] for user in session["session_users"]]


def back_up(control_plane: Server) -> Path:
    """As sqlite3's .backup does, while it is in use."""
    backup = control_plane.directory / "backup.sqlite3"
    with closing(sqlite3.connect(control_plane.database)) as of, closing(sqlite3.connect(backup)) as to:
        of.backup(to)
    return backup


def restore(control_plane: Server, backup: Path) -> None:
    """The way of docs/operating.md: stopped, put in place of the one there is, started."""
    control_plane.stop()
    for rest in control_plane.directory.glob("relayd.sqlite3*"):
        rest.unlink()
    backup.replace(control_plane.database)
    control_plane.start()


def test_games_that_a_restored_backup_lacks_go_on_and_are_in_the_api_again(
    control_plane: Server, backend: Receiver, start_relay: StartRelay
) -> None:
    relay = start_relay(None, following(control_plane))
    old = create(control_plane, backend, OLD)
    backup = back_up(control_plane)
    *young, empty = create(control_plane, backend, YOUNG + 1)
    late = control_plane.client.post(
        "/v1/relays/sessions:authorize-user", json={"session_id": old[0]["session_id"], "user_ip": "192.0.2.1"}
    ).json()["session_user"]["authorization_token"]
    with ExitStack() as stack:
        hosts, players = [], []
        for session, user in ((old[0], late), *((one, keys_of(one)[1][1]) for one in young)):
            token, users = keys_of(session)
            hosts.append(stack.enter_context(Host(relay.address("server"), users[0], token)))
            players.append(stack.enter_context(Player(relay.address("client"), user, token)))
            hosts[-1].ping_until(VALID)
            players[-1].ping_until(VALID)
        ids = [said_by(host, player, OPENS_CONNECTION) for host, player in zip(hosts, players, strict=True)]
        with talking(*hosts, *players):
            restore(control_plane, backup)
            # Both before the relay has asked again, as far as it is slow: one that is there, one that is not yet.
            control_plane.delete(old[1])
            expected = {one["session_id"] for one in [*old, *young]} - {old[1]["session_id"]}
            eventually(lambda: listed(control_plane).keys() == expected, "all that go on are listed")
            eventually(lambda: sessions_of(relay) == expected, "the relay has those and no others")
        for peer in (*hosts, *players):
            assert set(peer.received_by_now()) == {VALID}, "somebody's game ended meanwhile"
        assert [said_by(host, player, GOES_ON) for host, player in zip(hosts, players, strict=True)] == ids
        after = listed(control_plane)
        for session in young:
            assert keys_of(after[session["session_id"]]) == keys_of(session)
            assert after[session["session_id"]]["relay"] == session["relay"]
        assert keys_of(after[old[0]["session_id"]])[1] == [*keys_of(old[0])[1], late]
        token, users = keys_of(empty)
        with Player(relay.address("client"), users[1], token) as player:
            assert player.ping() != VALID, "nobody was in it, so that it ended"
        # From here on it is as it was before: what ends, ends.
        control_plane.delete(young[0])
        players[1].ping_until(SESSION_TIMEOUT)
        assert hosts[2].ping() == VALID
    create(control_plane, backend, 1)
    assert set(told(backend).values()) == {1}, "a backend was called twice about one session"


def said_by(host: Host, player: Player, payload: bytes) -> int:
    """Has a player say something; how its host knows it."""
    said = player.say(payload)[len(player.header) :]
    # Answers to PINGs may still come.
    while (datagram := host.receive())[:1] != DATA:
        assert datagram == VALID
    connection_id = datagram[1:5]
    assert DATA + datagram[5:] == said
    return int.from_bytes(connection_id, "little")


def sessions_of(relay: RelayProcess) -> set[str]:
    found = relay.get_json("/v1/sessions")["sessions"]
    return {one["session_id"] for one in found}
