"""The units in systemd/, installed as an operator does it and run by a real systemd."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.config import SessionKeys, new_session, to_toml
from tests.integration.fast_path import bpf_file_system, own_network
from tests.integration.machine import BootError, Machine, why_not
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID, Host, Player
from tests.integration.relay_process import REPOSITORY
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs /usr/bin/python3"),
]

UNITS = ("relayd.service", "relayd@two.service", "relayd-control-plane.service")
CAPABILITIES = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
FIRST: dict[str, Any] = {
    "relay": {"bind": ["127.0.0.1", "::1"], "receive_buffer_bytes": 1 << 20, "send_buffer_bytes": 1 << 20},
    # So rarely that what is seen in time was read because of a reload.
    "source": {"path": "/var/lib/relayd/sessions.json", "poll_interval": 600},
    "api": {
        "token_file": "/run/credentials/relayd-control-plane.service/api-token",
        "database": "/var/lib/relayd-control-plane/relayd.sqlite3",
    },
}
SECOND: dict[str, Any] = {
    "relay": {**FIRST["relay"], "id": "two", "server_port": 33000, "client_port": 33001},
    "admin": {"bind": "127.0.0.1:9465"},
    "source": {
        "kind": "control_plane",
        "token_file": "/run/credentials/relayd@two.service/control-plane-token",
    },
    "fast_path": {"mode": "require", "interfaces": ["lo"]},
}
KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make install-system` puts on a host."""
    folder = tmp_path_factory.mktemp("installed")
    make("install-system", folder)
    yield folder
    make("uninstall-system", folder)
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]
    assert left == ["etc/relayd/relayd.toml"]


def make(target: str, folder: Path) -> None:
    command = ["make", target, f"DESTDIR={folder}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def machine(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    with own_network(), bpf_file_system(folder / "bpf") as bpf, ExitStack() as stack:
        # As systemd mounts it.
        bpf.chmod(0o700)
        try:
            booted = stack.enter_context(Machine(folder, installed, bpf))
        except BootError as error:
            pytest.skip(f"no machine boots here: {error}")
        configure(booted, "relayd.toml", FIRST)
        configure(booted, "two.toml", SECOND)
        credentials = booted.root / "etc" / "credstore"
        credentials.mkdir(mode=0o700)
        for name in ("relayd.api-token", "relayd.control-plane-token"):
            (credentials / name).write_text(KEY, encoding="utf-8")
        yield booted


def configure(machine: Machine, name: str, settings: dict[str, Any]) -> None:
    (machine.root / "etc" / "relayd" / name).write_text(to_toml(settings), encoding="utf-8")


def write_sessions(machine: Machine, *sessions: SessionKeys) -> None:
    text = json.dumps({"sessions": [session.as_json() for session in sessions]})
    machine.run("sh", "-c", f"echo '{text}' >/var/lib/relayd/sessions.json")


@contextmanager
def running(machine: Machine, *sessions: SessionKeys) -> Iterator[None]:
    """relayd.service with these sessions; stopped at the end."""
    machine.run("mkdir", "-p", "/var/lib/relayd")
    write_sessions(machine, *sessions)
    machine.systemctl("start", "relayd")
    try:
        yield
    except BaseException:
        sys.stderr.write(machine.log_of("relayd*"))
        raise
    finally:
        machine.systemctl("stop", "relayd")


def host_of(session: SessionKeys, port: int = 32000) -> Host:
    return Host(("127.0.0.1", port), session.host, session.token)


def player_of(session: SessionKeys, number: int = 0, port: int = 32001, ip: str = "127.0.0.1") -> Player:
    return Player((ip, port), session.players[number], session.token)


def metrics(admin_port: int = 9464) -> dict[tuple[str, ...], float]:
    with urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sockets() -> dict[str, str]:
    """Inode by local address and port, of each UDP socket of this network that is a relay's (proc(5))."""
    found = {}
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) in (32000, 32001):
                found[fields[1]] = fields[9]
    return found


def main_pid(machine: Machine, unit: str = "relayd") -> int:
    return int(machine.property(unit, "MainPID"))


def process_after(machine: Machine, pid: int, unit: str = "relayd") -> int:
    """The next process of a unit, once it is ready."""
    eventually(lambda: main_pid(machine, unit) not in (0, pid), "another process runs")
    eventually(lambda: machine.property(unit, "ActiveState") == "active", "it is ready")
    return main_pid(machine, unit)


def test_units_are_well_formed(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", *UNITS)
    assert (done.stdout, done.stderr) == ("", "")


def test_it_is_ready_only_once_sessions_are_there(machine: Machine) -> None:
    session = new_session("first")
    limit = machine.drop_in("relayd", "[Service]\nTimeoutStartSec=3s\n")
    machine.systemctl("start", "--no-block", "relayd")
    try:
        eventually(
            lambda: machine.property("relayd", "StatusText").startswith("no sessions yet: /var/lib/relayd/"),
            "it says what it waits for",
        )
        assert machine.property("relayd", "ActiveState") == "activating"
        began_usec = int(machine.property("relayd", "InactiveExitTimestampMonotonic"))
        eventually(lambda: time.monotonic() > began_usec / 1e6 + 4, "the time for a start is over")
        write_sessions(machine, session)
        machine.systemctl("kill", "--signal=HUP", "relayd")
        eventually(lambda: machine.property("relayd", "ActiveState") == "active", "it is ready")
        assert machine.property("relayd", "NRestarts") == "0"
        eventually(
            lambda: machine.property("relayd", "StatusText") == "1 sessions, 0 of them playing", "it says how it does"
        )
        for number, ip in enumerate(FIRST["relay"]["bind"]):
            with player_of(session, number, ip=ip) as player:
                assert player.ping() == VALID
    finally:
        machine.systemctl("stop", "relayd")
        machine.remove(limit)


def test_reload_reads_the_sessions_again(machine: Machine) -> None:
    first, second = new_session("first"), new_session("second")
    with running(machine, first):
        pid = main_pid(machine)
        write_sessions(machine, first, second)
        machine.systemctl("reload", "relayd")
        with host_of(second) as host:
            host.ping_until(VALID)
        eventually(lambda: machine.property("relayd", "SubState") == "running", "it has reloaded")
        assert machine.property("relayd", "StatusText").startswith("2 sessions")
        assert main_pid(machine) == pid


class Talker(threading.Thread):
    """A player that goes on PINGing, as players do: an ICMP error would be raised, and end it."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._player = player
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(0.002):
                self._player.send_ping()
                self._player.received_by_now()
        except OSError as error:
            self.error = error

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.parametrize("how", ["restart", "SIGKILL"])
def test_a_restart_keeps_the_sockets(machine: Machine, how: str) -> None:
    session = new_session("restarted")
    with running(machine, session), player_of(session) as player:
        assert player.ping() == VALID
        before, pid = sockets(), main_pid(machine)
        assert len(before) == 4
        talker = Talker(player)
        talker.start()
        try:
            for _ in range(3):
                if how == "restart":
                    machine.systemctl("restart", "relayd")
                else:
                    machine.systemctl("kill", "--signal=KILL", "relayd")
                pid = process_after(machine, pid)
        finally:
            talker.stop()
        assert talker.error is None
        assert sockets() == before
        assert machine.property("relayd", "NFileDescriptorStore") == "4"
        player.ping_until(VALID)


def test_a_relay_that_stands_is_started_anew_and_nothing_sent_meanwhile_is_lost(machine: Machine) -> None:
    session = new_session("stopped", players=1)
    with running(machine, session), host_of(session) as host, player_of(session) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        host.hear()
        before, pid = sockets(), main_pid(machine)
        machine.systemctl("kill", "--signal=STOP", "relayd")
        eventually(lambda: "State:\tT" in machine.run("cat", f"/proc/{pid}/status").stdout, "it stands")
        host.send_ping()
        for _ in range(10):
            player.say(GOES_ON)
        process_after(machine, pid)
        assert "Watchdog timeout" in machine.log_of("relayd")
        assert sockets() == before
        assert host.receive() == VALID
        handled = eventually(
            lambda: [metrics()["relayd_datagrams_total", "client", verdict] for verdict in ("forwarded", "no_host")],
            "it answers",
        )
        assert sum(handled) == 10
        assert metrics()["relayd_datagrams_total", "client", "unknown_pair"] == 0


def test_sockets_that_no_longer_fit_are_let_go(machine: Machine) -> None:
    session = new_session("moved")
    with running(machine, session):
        before = sockets()
        configure(machine, "relayd.toml", {**FIRST, "relay": {**FIRST["relay"], "bind": ["0.0.0.0", "::1"]}})
        try:
            machine.systemctl("restart", "relayd")
            after = sockets()
            assert len(after) == 4
            assert sum(inode in before.values() for inode in after.values()) == 2
            assert machine.property("relayd", "NFileDescriptorStore") == "4"
            assert machine.property("relayd", "NRestarts") == "0"
        finally:
            configure(machine, "relayd.toml", FIRST)


def test_a_stop_leaves_nothing(machine: Machine) -> None:
    session = new_session("ended")
    with running(machine, session), host_of(session) as host:
        assert host.ping() == VALID
    assert machine.property("relayd", "ActiveState") == "inactive"
    assert machine.property("relayd", "Result") == "success"
    assert machine.property("relayd", "ExecMainStatus") == "0"
    assert machine.property("relayd", "NFileDescriptorStore") == "0"
    assert sockets() == {}


def api(key: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    request = Request(
        f"http://127.0.0.1:8080/v1/relays/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"token {key}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@needs_kernel
def test_a_second_relay_on_the_fast_path_follows_the_control_plane(machine: Machine) -> None:
    with running(machine, new_session("first")):
        machine.systemctl("start", "relayd-control-plane", "relayd@two")
        try:
            assert machine.property("relayd-control-plane", "ActiveState") == "active"
            add = ("control-plane", "keys", "add", "backend", "--scope=sessions:write", "--scope=sessions:read")
            key = machine.run("/usr/local/bin/relayd", *add).stdout.strip()
            session_id = api(key, "POST", "sessions", {"users": [{"ip": "127.0.0.1"}] * 2})["session_id"]
            created = eventually(
                lambda: next((s for s in [api(key, "GET", f"sessions/{session_id}")] if s["ready"]), None),
                "it is placed",
            )
            assert created is not None
            users = tuple(user["authorization_token"] for user in created["session_users"])
            session = SessionKeys(session_id, created["authorization_token"], users)
            with host_of(session, 33000) as host, player_of(session, port=33001) as player:
                host.ping_until(VALID)
                player.say(OPENS_CONNECTION)
                connection_id, _ = host.hear()
                by_kernel = "relayd_fast_path_datagrams_total", "client", "forwarded"

                def served_by_kernel() -> bool:
                    # The kernel learns the way to the host from what the host sends.
                    assert host.ping() == VALID
                    player.say(GOES_ON)
                    assert host.hear() == (connection_id, GOES_ON)
                    return metrics(9465).get(by_kernel, 0) > 0

                eventually(served_by_kernel, "the kernel forwards")
                pid = main_pid(machine, "relayd@two")
                machine.systemctl("kill", "--signal=KILL", "relayd@two")
                process_after(machine, pid, "relayd@two")
                player.say(GOES_ON)
                assert host.hear() == (connection_id, GOES_ON)
                assert metrics(9465)["relayd_fast_path_up",] == 1
        finally:
            machine.systemctl("stop", "relayd-control-plane", "relayd@two")
        pinned = machine.run("find", "/sys/fs/bpf/relayd-two", "-mindepth", "1").stdout
        assert pinned == ""


@needs_kernel
@pytest.mark.parametrize("without", CAPABILITIES)
def test_each_capability_is_needed_by_the_fast_path(machine: Machine, without: str) -> None:
    rest = " ".join(name for name in CAPABILITIES if name != without)
    sections = "".join(f"{key}=\n{key}={rest}\n" for key in ("AmbientCapabilities", "CapabilityBoundingSet"))
    drop_in = machine.drop_in("relayd@two", f"[Service]\nRestart=no\n{sections}")
    try:
        assert machine.systemctl("start", "relayd@two", check=False).returncode == 1
        assert machine.property("relayd@two", "ExecMainStatus") == "69"
    finally:
        machine.remove(drop_in)
        machine.systemctl("reset-failed", "relayd@two")
