"""Whether the control plane fares well, as those see it who run it; and that there is one to a database."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.commands import relayd
from tests.integration.control_plane.process import FakeRelay, Made, Server, until
from tests.integration.waiting import PATIENCE_SECONDS


def asked(server: Server, path: str) -> httpx.Response:
    """Without a key."""
    return httpx.get(f"{server.url}{path}", timeout=PATIENCE_SECONDS, trust_env=False)


def metrics(server: Server) -> dict[tuple[str, str], float]:
    """Values by name and the one label, if there is one."""
    answer = asked(server, "/metrics")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_it_says_that_it_is_well(server: Server) -> None:
    assert (asked(server, "/healthz").status_code, asked(server, "/healthz").text) == (200, "ok\n")
    assert (asked(server, "/readyz").status_code, asked(server, "/readyz").text) == (200, "ready\n")


def test_it_is_not_ready_while_the_database_is_away(server: Server) -> None:
    server.database.rename(server.directory / "away")
    answer = asked(server, "/readyz")
    assert answer.status_code == 503
    assert "session store" in answer.text
    assert asked(server, "/healthz").status_code == 200
    assert metrics(server)["relayd_control_plane_database_up", ""] == 0
    (server.directory / "away").rename(server.database)
    assert asked(server, "/readyz").status_code == 200
    assert metrics(server)["relayd_control_plane_database_up", ""] == 1


def test_metrics_count_relays_sessions_and_webhooks(made: Made) -> None:
    server = made(webhook_allow_private=True)
    server.start()
    server.create(webhook_url="http://127.0.0.1:9/")  # no relay: an error to be announced, and nobody there
    until("a call that failed", lambda: metrics(server)["relayd_webhook_deliveries_total", "failed"])
    online = FakeRelay(server, "online")
    leaving = FakeRelay(server, "leaving", server_port=1, client_port=2, draining=True)
    server.create()

    def heard() -> dict[tuple[str, str], float]:
        """Both have just been."""
        online.beat()
        leaving.beat()
        shown = metrics(server)
        return shown if not shown["relayd_nodes", "silent"] else {}

    shown = until("nobody is silent", heard)
    assert shown["relayd_control_plane_sessions", ""] == 2
    assert shown["relayd_control_plane_webhooks_waiting", ""] == 1
    assert {status: shown["relayd_nodes", status] for status in ("online", "draining", "silent")} == {
        "online": 1,
        "draining": 1,
        "silent": 0,
    }
    assert shown["relayd_webhook_deliveries_total", "delivered"] == 0


def test_its_metrics_are_told_from_those_of_relays(shared: Server) -> None:
    of_others = {"relayd_nodes", "relayd_webhook_deliveries_total", "relayd_log_lines_lost_total"}
    names = {name for name, _ in metrics(shared)} - of_others
    assert names
    assert [name for name in names if not name.startswith("relayd_control_plane_")] == []


# One to a database --------------------------------------------------------------------------------------------


Second = Callable[[object], Server]


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Second]:
    """Makes another control plane, on a port of its own, with that database."""
    with contextlib.ExitStack() as stack:

        def make(database: object) -> Server:
            folder = tmp_path / "second"
            folder.mkdir()
            made = Server(folder, database=str(database))
            stack.callback(made.close)
            return made

        yield make


@pytest.mark.parametrize("by_a_link", [False, True])
def test_a_second_one_on_the_same_database_is_refused(server: Server, second: Second, by_a_link: bool) -> None:
    relay = FakeRelay(server)
    relay.beat()
    database = server.database
    if by_a_link:
        database = server.directory / "link"
        database.symlink_to(server.database)
    other = second(database)
    ended = other.command()
    assert server.process is not None
    assert (ended.returncode, ended.stderr.count("\n")) == (69, 1), ended.stderr
    assert f"process {server.process.pid}" in ended.stderr
    assert "stop that one" in ended.stderr

    def goes_on() -> bool:
        relay.beat()
        return bool(server.create()["status"] == "Initializing")

    until("the first goes on", goes_on)
    assert server.command("keys", "list").returncode == 0, "keys are for both"
    server.kill()
    other.start()
    assert asked(other, "/readyz").status_code == 200
    assert other.stop() == 0


def test_a_relay_with_a_control_plane_of_its_own_is_refused_too(server: Server, second: Second) -> None:
    config = server.directory / "dev.toml"
    config.write_text(f'[api]\nbind = "127.0.0.1:{second("x").port}"\ndatabase = "{server.database}"\n')
    ended = relayd("dev", "--for", "1", "--config", str(config))
    assert (ended.returncode, ended.stderr.count("\n")) == (69, 1), ended.stderr
    assert "another control plane" in ended.stderr


def test_memory_is_everybodys_own(made: Made, second: Second) -> None:
    for server in (made(database=":memory:"), second(":memory:")):
        server.start()
        assert not list(server.directory.glob("*.lock"))
        assert server.stop() == 0


def test_where_no_lock_can_be_there_is_one_line(made: Made) -> None:
    server = made()
    (server.directory / "relayd.sqlite3.lock").mkdir()
    ended = server.command()
    assert (ended.returncode, ended.stderr.count("\n")) == (78, 1), ended.stderr
    assert "api.database" in ended.stderr
    assert "cannot be locked" in ended.stderr


# Before it is started -----------------------------------------------------------------------------------------


def test_a_configuration_that_is_fine_is_said_to_be(made: Made) -> None:
    server = made()
    before = set(server.directory.iterdir())
    done = relayd("check", "--config", str(server.config))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert f"127.0.0.1:{server.port}" in done.stdout
    assert set(server.directory.iterdir()) == before, "looking leaves nothing behind"
    server.start()
    running = relayd("check", "--config", str(server.config))
    assert (running.returncode, running.stderr) == (0, "")
    assert "held by the control plane" in running.stdout
    assert server.stop() == 0
    assert relayd("check", "--config", str(server.config)).returncode == 0


@pytest.mark.parametrize(
    ("api", "named"),
    [
        ({"token_file": "not-there"}, "api.token_file"),
        ({"webhook_secret_file": "not-there"}, "api.webhook_secret_file"),
        ({"database": "not/there/x.sqlite3"}, "api.database"),
        ({"database": "key"}, "api.database"),
        ({"tls_certificate_file": "key", "tls_key_file": "key"}, "api.tls_certificate_file"),
        ({"bind": "localhost"}, "api.bind"),
    ],
)
def test_a_broken_section_is_named_before_the_start(made: Made, api: dict[str, object], named: str) -> None:
    server = made(**api)
    done = relayd("check", "--config", str(server.config))
    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stdout + done.stderr
    assert named in done.stderr


def test_a_database_of_a_newer_version_is_named_before_the_start(server: Server) -> None:
    assert server.stop() == 0
    with sqlite3.connect(server.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = relayd("check", "--config", str(server.config))
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "newer relayd" in done.stderr


def test_a_taken_port_is_named_before_the_start(server: Server, second: Second) -> None:
    other = second("its-own.sqlite3")
    other.config.write_text(other.config.read_text().replace(str(other.port), str(server.port)))
    done = relayd("check", "--config", str(other.config))
    assert (done.returncode, done.stderr.count("\n")) == (69, 1)
    assert str(server.port) in done.stderr
