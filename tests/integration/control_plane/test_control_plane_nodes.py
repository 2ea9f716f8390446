"""The relays' side over real HTTP: heartbeats, deltas, long polls."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.control_plane.process import FakeRelay, Server, until

NODE = "/v1/relays/nodes/relay-1"
LONGEST_WAIT_SECONDS = 30
"""Of a heartbeat: far longer than an answer takes that does not wait."""


def test_a_held_heartbeat_is_answered_as_soon_as_a_session_is_created(server: Server) -> None:
    relay = FakeRelay(server)
    relay.sync()
    with ThreadPoolExecutor() as pool, server.with_key("bootstrap-key-for-tests") as other:
        held = pool.submit(relay.beat, LONGEST_WAIT_SECONDS)
        begun = time.monotonic()
        answer = other.post("/v1/relays/sessions", json={"users": ["1.1.1.1"]})
        newest = held.result()
        assert time.monotonic() - begun < LONGEST_WAIT_SECONDS - 5
    assert newest["revision"] > relay.revision
    relay.read()
    assert list(relay.sessions) == [answer.json()["session_id"]]


def test_a_held_heartbeat_ends_with_its_wait(server: Server) -> None:
    relay = FakeRelay(server)
    relay.sync()
    begun = time.monotonic()
    assert relay.beat(wait=0.3) == {"epoch": relay.epoch, "revision": relay.revision}
    assert time.monotonic() - begun > 0.25


def test_a_heartbeat_that_is_behind_is_not_held(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()
    begun = time.monotonic()
    assert relay.beat(wait=LONGEST_WAIT_SECONDS)["revision"] > 0
    assert time.monotonic() - begun < LONGEST_WAIT_SECONDS - 5
    assert server.get(session)["status"] == "Initializing"


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "inf", "x", " "])
def test_waits_that_are_refused(shared: Server, wait: str) -> None:
    assert shared.client.put(NODE, params={"wait": wait}, json=FakeRelay(shared).about).status_code == 400


def test_full_then_deltas(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    made = [server.create() for _ in range(7)]
    pages = relay.read(limit=3)
    assert [page["full"] for page in pages] == [True] * 3
    ids = [session["session_id"] for page in pages for session in page["sessions"]]
    assert ids == sorted(session["session_id"] for session in made)
    server.delete(made[0])
    new = server.create()
    asked = {"session_id": made[1]["session_id"], "user_ip": "9.9.9.9"}
    assert server.client.post("/v1/relays/sessions:authorize-user", json=asked).status_code == 200
    (delta,) = relay.read()
    assert delta["full"] is False
    assert delta["removed"] == [made[0]["session_id"]]
    assert {session["session_id"] for session in delta["sessions"]} == {made[1]["session_id"], new["session_id"]}
    (nothing,) = relay.read()
    assert (nothing["full"], nothing["sessions"], nothing["removed"]) == (False, [], [])
    assert relay.beat() == {"epoch": relay.epoch, "revision": relay.revision}


def test_changes_while_the_pages_are_read_come_with_the_next_delta(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    made = sorted(server.create()["session_id"] for _ in range(6))
    first = relay.page(limit=2)
    server.delete({"session_id": made[0]})  # read already
    server.delete({"session_id": made[5]})  # not yet read
    new = [server.create()["session_id"] for _ in range(4)]  # somewhere in between
    seen = {session["session_id"] for session in first["sessions"]}
    page = first
    while page["next"]:
        page = relay.page(limit=2, after=page["next"])
        assert page["full"] is True
        seen |= {session["session_id"] for session in page["sessions"]}
    assert made[0] in seen
    relay.sessions = {name: {} for name in seen}
    relay.epoch, relay.revision = first["epoch"], first["revision"]
    (delta,) = relay.read()
    assert set(delta["removed"]) == {made[0], made[5]}
    assert set(relay.sessions) == {*made[1:5], *new}


def test_a_long_delta_comes_in_pages_with_the_removals_first(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    gone = server.create()
    relay.read()
    server.delete(gone)
    made = {server.create()["session_id"] for _ in range(5)}
    pages = relay.read(limit=2)
    assert [page["removed"] for page in pages] == [[gone["session_id"]], [], []]
    assert [page["full"] for page in pages] == [False] * 3
    assert set(relay.sessions) == made


def test_another_epoch_or_an_unheard_of_revision_gets_everything(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    server.create()
    relay.read()
    assert relay.page(since=relay.revision, epoch="other")["full"] is True
    assert relay.page(since=relay.revision)["full"] is True
    assert relay.page(since=relay.revision + 1, epoch=relay.epoch)["full"] is True
    assert relay.page(since=relay.revision, epoch=relay.epoch)["full"] is False


def test_what_was_applied_under_another_epoch_makes_nothing_ready(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()
    relay.epoch, relay.revision = "other", 10**9
    relay.beat()
    assert server.get(session)["status"] == "Initializing"


def test_a_new_database_has_another_epoch(server: Server) -> None:
    relay = FakeRelay(server)
    relay.sync()
    server.stop()
    for file in server.directory.glob("relayd.sqlite3*"):
        file.unlink()
    server.start()
    assert relay.beat()["epoch"] != relay.epoch
    assert relay.read()[0]["full"] is True


def test_etag(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    answer = server.client.get(f"{NODE}/sessions")
    unchanged = server.client.get(f"{NODE}/sessions", headers={"If-None-Match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    server.create()
    assert server.client.get(f"{NODE}/sessions", headers={"If-None-Match": answer.headers["etag"]}).status_code == 200


def test_sessions_the_relay_ended_are_removed_if_they_are_its_own(server: Server) -> None:
    one, other = FakeRelay(server, "relay-1"), FakeRelay(server, "relay-2", draining=True)
    one.beat()
    other.beat()
    session = server.create()
    other.beat(ended=(session["session_id"],))
    assert server.get(session)["status"] == "Initializing"
    for _ in range(2):
        one.beat(ended=(session["session_id"], "nope", "\x00"))
        assert server.client.get(f"/v1/relays/sessions/{session['session_id']}").status_code == 404
    (delta,) = one.read()
    assert delta["sessions"] == []


def test_sessions_go_to_their_own_relay_only(server: Server) -> None:
    berlin = FakeRelay(server, "berlin")
    tokyo = FakeRelay(server, "tokyo", latitude=35.7, longitude=139.7, attributes={"city": "Tokyo"}, host="::1")
    berlin.beat()
    tokyo.beat()
    near = server.create({"ip": "1.1.1.1", "latitude": 36, "longitude": 138})
    wanted = server.create(filters=[{"field": "city", "values": ["berlin"], "filter_type": "any"}])
    tokyo.sync()
    berlin.sync()
    assert (list(tokyo.sessions), list(berlin.sessions)) == ([near["session_id"]], [wanted["session_id"]])
    assert server.get(near)["relay"]["ports"]["server"]["link"] == "[::1]:32000"


def test_a_second_relay_of_the_same_name_is_refused_until_the_first_is_silent(server: Server) -> None:
    first = FakeRelay(server)
    second = FakeRelay(server, ip="203.0.113.8")
    first.beat()
    for change in ({"ip": "203.0.113.8"}, {"server_port": 1}, {"client_port": 1}, {"ip": "203.0.113.8"}):
        answer = server.client.put(NODE, json=first.about | change)
        assert answer.status_code == 409
        assert answer.json() == {
            "message": "relay-1 is also heard from 203.0.113.7, ports 32000 and 32001; give each relay its own relay.id"
        }
    until("each pair is in the log", lambda: server.log.read_text().count('"relay refused"') >= 3)
    assert server.log.read_text().count('"relay refused"') == 3, "once for each pair"
    first.about["host"] = "another.example.net"
    first.beat()
    server.stop()
    with sqlite3.connect(server.database) as connection:
        connection.execute("UPDATE nodes SET heard_at = heard_at - 11")
    connection.close()
    server.start()
    second.beat()
    assert server.client.put(NODE, json=first.about).status_code == 409


def test_capacity_0_is_no_bound(server: Server) -> None:
    FakeRelay(server, capacity=0, load=10**6).beat()
    assert server.create(*["1.1.1.1"] * 50)["status"] == "Initializing"


def test_an_unknown_relay_has_to_heartbeat_first(shared: Server) -> None:
    answer = shared.client.get("/v1/relays/nodes/nobody/sessions")
    assert answer.status_code == 404
    assert "heartbeat" in answer.json()["message"]


def test_a_silent_relay_gets_no_new_session_and_keeps_those_it_has(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()
    relay.sync()
    server.stop()
    with sqlite3.connect(server.database) as connection:
        connection.execute("UPDATE nodes SET heard_at = heard_at - 11")
    connection.close()
    server.start()
    assert "alive" in server.create()["error"]
    assert server.get(session)["status"] == "Ready"
    relay.beat()
    assert server.create()["status"] == "Initializing"


@pytest.mark.parametrize(
    "change",
    [
        {"ip": "x"}, {"host": ""}, {"server_port": 0}, {"client_port": 65536}, {"capacity": -1}, {"load": 2**70},
        {"attributes": {"city": 1}}, {"latitude": 91}, {"ended": [1]}, {"revision": -1}, {"draining": "perhaps"},
    ],
    ids=str,
)  # fmt: skip
def test_heartbeats_that_are_refused(shared: Server, change: dict[str, object]) -> None:
    answer = shared.client.put(NODE, json=FakeRelay(shared).about | change)
    assert (answer.status_code, set(answer.json())) == (400, {"message"})
