"""Starting, ending, and a store that cannot be used."""

import socket
import sqlite3
import subprocess
import sys

import pytest

from tests.integration.controlplane.process import FakeRelay, Made, Server, until

SESSIONS = "/v1/relays/sessions"


def test_a_taken_port_ends_with_69_and_one_line(made: Made) -> None:
    server = made()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        ended = server.command()
    assert ended.returncode == 69
    assert ended.stderr.count("\n") == 1
    assert str(server.port) in ended.stderr


@pytest.mark.parametrize(
    ("api", "named"),
    [
        ({"databse": "x"}, "databse"),
        ({"token_file": "not-there"}, "api.token_file"),
        ({"webhook_secret_file": "not-there"}, "api.webhook_secret_file"),
        ({"database": "not/there/x.sqlite3"}, "api.database"),
        ({"database": "key"}, "api.database"),  # a file that is no database
    ],
)
def test_bad_configuration_ends_with_78_and_names_the_key(made: Made, api: dict[str, object], named: str) -> None:
    server = made(**api)
    ended = server.command()
    assert ended.returncode == 78
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_database_of_a_newer_version_is_refused(made: Made) -> None:
    server = made()
    server.start()
    assert server.stop() == 0
    with sqlite3.connect(server.database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    ended = server.command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1)
    assert "newer relayd" in ended.stderr


def test_sigint_ends_it_too(server: Server) -> None:
    assert server.process is not None
    server.process.send_signal(2)
    assert server.process.wait(10) == 0


def test_memory_keeps_nothing_and_works(made: Made) -> None:
    server = made(database=":memory:")
    server.start()
    relay = FakeRelay(server)
    relay.beat()
    session = server.create()
    relay.sync()
    assert server.get(session)["status"] == "Ready"
    assert server.command("keys", "list").returncode == 78
    assert server.stop() == 0
    assert not list(server.directory.glob("*memory*"))


def test_a_locked_store_is_503_and_comes_back(server: Server) -> None:
    FakeRelay(server).beat()
    lock = sqlite3.connect(server.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    answer = server.client.post(SESSIONS, json={"users": ["1.1.1.1"]})
    assert (answer.status_code, set(answer.json())) == (503, {"message"})
    assert server.client.get(SESSIONS).status_code == 200, "reading goes on"
    lock.execute("ROLLBACK")
    lock.close()
    assert server.create()["status"] == "Initializing"


def test_a_store_that_is_gone_is_503(server: Server) -> None:
    server.database.rename(server.directory / "away")
    for answer in (
        server.client.get(SESSIONS),
        server.client.get(f"{SESSIONS}/x"),
        server.client.post(SESSIONS, json={"users": ["1.1.1.1"]}),
        server.client.delete(f"{SESSIONS}/x"),
        server.client.put("/v1/relays/nodes/n", json=FakeRelay(server).about),
    ):
        assert (answer.status_code, set(answer.json())) == (503, {"message"})
    (server.directory / "away").rename(server.database)
    assert server.client.get(SESSIONS).status_code == 200


def test_the_database_is_its_owners_alone(server: Server) -> None:
    for file in server.directory.glob("relayd.sqlite3*"):
        assert file.stat().st_mode & 0o077 == 0, file


def test_help_names_the_commands() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "relayd", "control-plane", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "keys" in shown.stdout
    assert "webhook-secret" in shown.stdout


def test_docs_and_document_need_no_key(shared: Server) -> None:
    for path in ("/docs", "/openapi.json"):
        assert shared.client.get(path, headers={"Authorization": ""}).status_code == 200
    assert until("docs", lambda: "relay-session-create" in shared.client.get("/docs").text)
