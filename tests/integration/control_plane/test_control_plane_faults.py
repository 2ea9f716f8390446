"""A disk that is full or read-only, a database that is damaged, a clock that is set."""

import resource
import socket
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.clocks import Clock, needs_faketime
from tests.integration.control_plane.process import KEY, FakeRelay, Made, Server, until
from tests.integration.disks import PAGE_BYTES, is_full, may_mount, on_a_disk

SESSIONS = "/v1/relays/sessions"
CREATE = {"users": ["1.1.1.1"]}
HOUR_SECONDS = 3600

needs_mount = pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")


def on_its_own_disk(server: Server, options: str, first: str = "true") -> Path:
    """Puts a server's database on a disk of its own. Returns where that is mounted."""
    disk = server.directory / "disk"
    disk.mkdir()
    server.before = on_a_disk(str(disk), options, first)
    return disk


@needs_mount
def test_a_full_disk_is_503_until_there_is_room(made: Made) -> None:
    server = made(database="disk/relayd.sqlite3")
    disk = on_its_own_disk(server, "size=1m")
    server.start()
    FakeRelay(server).beat()
    before = server.create()["session_id"]
    assert server.process is not None
    filler = Path(f"/proc/{server.process.pid}/root/{disk}/filler")
    with filler.open("wb", buffering=0) as file:
        until("the disk is full", lambda: is_full(file.fileno()))
        # SQLite may have room left in its journal.
        until("it says so", lambda: server.client.post(SESSIONS, json=CREATE).status_code == 503)
        assert server.client.get(f"{SESSIONS}/{before}").status_code == 200, "reading goes on"
    filler.unlink()
    assert server.create()["status"] == "Initializing"
    assert server.client.get(f"{SESSIONS}/{before}").status_code == 200
    assert server.stop() == 0


@needs_mount
@pytest.mark.parametrize("there_before", [True, False])
def test_a_read_only_disk_ends_with_78_and_one_line(made: Made, there_before: bool) -> None:
    server = made()
    server.start()
    assert server.stop() == 0
    first = f'cp {server.database} "$0"/new.sqlite3' if there_before else "true"
    server.config.write_text(server.config.read_text().replace(server.database.name, "disk/new.sqlite3"))
    on_its_own_disk(server, "size=1m", f'{first} && mount -o remount,bind,ro "$0"')
    ended = server.command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1), ended.stderr
    assert "api.database" in ended.stderr
    assert "read-only" in ended.stderr.lower() or "readonly" in ended.stderr


def test_a_database_whose_beginning_is_damaged_ends_with_78_and_one_line(server: Server) -> None:
    assert server.stop() == 0
    with server.database.open("r+b") as file:
        file.write(b"\xff" * 100)
    ended = server.command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1), ended.stderr
    assert "api.database" in ended.stderr


def test_a_database_that_is_damaged_inside_is_503_where_it_is_met(server: Server) -> None:
    FakeRelay(server).beat()
    for _ in range(50):
        server.create()
    assert server.stop() == 0
    root = _root_page(server.database, "sessions")
    with server.database.open("r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    server.start()
    answer = server.client.get(SESSIONS)
    assert (answer.status_code, set(answer.json())) == (503, {"message"})
    assert server.client.get("/docs").status_code == 200
    assert FakeRelay(server).beat()["epoch"], "heartbeats need no sessions"
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def _root_page(database: Path, table: str) -> int:
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    finally:
        connection.close()
    return int(root)


@needs_faketime
def test_a_clock_that_is_set_by_an_hour_keeps_nobody_waiting(made: Made) -> None:
    server = made()
    clock = Clock(server.directory)
    server.before = clock.before()
    server.start()
    relay = FakeRelay(server)
    relay.beat()
    created = [server.create()["session_id"]]
    for seconds in (HOUR_SECONDS, -HOUR_SECONDS, 0):
        clock.set(seconds)
        relay.sync()
        created.append(server.create()["session_id"])
        relay.sync()
        for session_id in created:
            session = server.client.get(f"{SESSIONS}/{session_id}").json()
            assert session["ready"], session
    assert set(relay.sessions) == set(created)
    assert server.stop() == 0


@needs_faketime
@pytest.mark.parametrize("restarted", [False, True])
def test_a_dead_relay_gets_no_session_though_the_clock_was_put_back(made: Made, restarted: bool) -> None:
    server = made()
    clock = Clock(server.directory)
    server.before = clock.before()
    server.start()
    FakeRelay(server).beat()  # its last
    if restarted:
        assert server.stop() == 0
    clock.set(-HOUR_SECONDS)
    if restarted:
        server.start()
    until("no new session goes there", lambda: server.create()["status"] == "Error")
    relay = FakeRelay(server)

    def heard() -> bool:
        relay.beat()
        return bool(server.create()["status"] == "Initializing")

    until("once it is heard again it gets some", heard)
    assert server.stop() == 0


def test_without_descriptors_it_answers_who_is_connected_and_with_them_everybody(server: Server) -> None:
    relay = FakeRelay(server)
    relay.beat()
    assert server.process is not None
    pid = server.process.pid
    used = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()) + 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
    ip, _, port = server.url.removeprefix("http://").rpartition(":")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection((ip, int(port))))
        # On the connection that it has.
        created = server.create()["session_id"]
        relay.sync()
        assert server.client.get(f"{SESSIONS}/{created}").json()["ready"]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    with server.with_key(KEY) as another:
        until("somebody else is answered", lambda: another.get(SESSIONS).status_code == 200)
    assert server.stop() == 0
