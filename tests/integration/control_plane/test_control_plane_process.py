"""Starting, ending, and a store that cannot be used."""

import os
import pty
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.commands import relayd, run_here
from tests.integration.control_plane.process import FakeRelay, Made, Server
from tests.integration.programs import Done
from tests.integration.relay_process import environment
from tests.integration.waiting import PATIENCE_SECONDS

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
    assert server.process.wait(PATIENCE_SECONDS) == 0


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
    shown = relayd("control-plane", "--help")
    assert "keys" in shown.stdout
    assert "webhook-secret" in shown.stdout
    assert "Without a command: serve the REST API" in shown.stdout
    assert "[COMMAND [ARGS]...]" in shown.stdout


def test_help_names_the_scopes() -> None:
    shown = relayd("control-plane", "keys", "add", "--help", variables={"COLUMNS": "80"}).stdout
    for scope in ("sessions:read", "sessions:write", "nodes:write"):
        assert scope in shown


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revoke", "0" * 12], ["webhook-secret"]])
def test_looking_in_the_wrong_place_makes_no_database(made: Made, command: list[str]) -> None:
    server = made()
    ended = server.command(*command)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (78, "", 1)
    assert f"api.database: there is no database {server.database}" in ended.stderr
    assert not list(server.directory.glob("relayd.sqlite3*"))


def test_the_place_of_a_database_without_configuration_is_named(tmp_path: Path) -> None:
    def command(*arguments: str) -> Done:
        return run_here(("control-plane", "keys", *arguments), environment(), tmp_path)

    assert str(tmp_path / "relayd.sqlite3") in command("list").stderr
    added = command("add", " backend ", "--scope", "sessions:read")
    assert re.fullmatch(r"rk_\w{12}_\S{43}\n", added.stdout)
    assert added.stderr == f"key {added.stdout[3:15]} added to {tmp_path / 'relayd.sqlite3'}\n"
    listed = command("list")
    assert re.fullmatch(r"\w{12}  sessions:read  \S+ \S+  backend\n", listed.stdout), "no header into a pipe"
    assert command("revoke", added.stdout[3:15]).returncode == 0
    empty = command("list")
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", f"no keys in {tmp_path / 'relayd.sqlite3'}\n")


def test_keys_on_a_terminal_have_a_header(server: Server) -> None:
    server.command("keys", "add", "one", "--scope", "sessions:read")
    server.command("keys", "add", "two", "--scope", "sessions:read", "--scope", "sessions:write")
    ours, its = pty.openpty()
    arguments = ["control-plane", "keys", "list", "--config", str(server.config)]
    try:
        subprocess.run([sys.executable, "-m", "relayd", *arguments], stdout=its, check=True, timeout=PATIENCE_SECONDS)
        header, *rows = os.read(ours, 4096).decode().splitlines()
    finally:
        os.close(ours)
        os.close(its)
    assert header.split() == ["ID", "SCOPES", "MADE", "(UTC)", "NAME"]
    assert [row[header.index("NAME") :] for row in rows] == ["one", "two"]


@pytest.mark.parametrize("name", [" ", "x" * 65, "a\x1b[31m"])
def test_names_of_keys_that_are_refused_end_with_64(server: Server, name: str) -> None:
    ended = server.command("keys", "add", name, "--scope", "sessions:read")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (64, "", 1)


def test_docs_and_document_need_no_key(shared: Server) -> None:
    for path in ("/docs", "/openapi.json"):
        assert shared.client.get(path, headers={"Authorization": ""}).status_code == 200
    assert "relay-session-create" in shared.client.get("/docs").text


def test_all_that_the_page_loads_is_served_here(shared: Server) -> None:
    page = shared.client.get("/docs", headers={"Authorization": ""})
    assert "script-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'<(?:script src|link rel="stylesheet" href)="([^"]*)"', page.text)
    assert loaded == ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/docs.js"]
    for path in loaded:
        answer = shared.client.get(f"/{path}", headers={"Authorization": ""})
        assert (answer.status_code, len(answer.content) > 100) == (200, True)
        assert answer.headers["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
    assert shared.client.get("/docs/redoc.standalone.js").status_code == 404
