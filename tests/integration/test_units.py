"""The units in systemd/, installed as an operator does it and run by a real systemd."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.config import SessionKeys, new_session
from tests.integration.fast_path import bpf_file_system, own_network
from tests.integration.machine import BootError, Machine, why_not
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID
from tests.integration.programs import REPOSITORY
from tests.integration.units import (
    FIRST,
    KEY,
    SECOND,
    Talker,
    api,
    configure,
    host_of,
    main_pid,
    metrics,
    player_of,
    process_after,
    running,
    sockets,
    write_sessions,
)
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs /usr/bin/python3"),
]

UNITS = ("relayd.service", "relayd@two.service", "relayd-control-plane.service")
CAPABILITIES = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")


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


def test_units_are_well_formed(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", *UNITS)
    assert (done.stdout, done.stderr) == ("", "")


def test_it_is_ready_only_once_sessions_are_there(machine: Machine) -> None:
    session = new_session("first")
    limit = machine.drop_in("relayd", "[Service]\nTimeoutStartSec=6s\n")
    machine.systemctl("start", "--no-block", "relayd")
    try:
        eventually(
            lambda: machine.property("relayd", "StatusText").startswith("no sessions yet: /var/lib/relayd/"),
            "it says what it waits for",
        )
        assert machine.property("relayd", "ActiveState") == "activating"
        began_usec = int(machine.property("relayd", "InactiveExitTimestampMonotonic"))
        eventually(lambda: time.monotonic() > began_usec / 1e6 + 7, "the time for a start is over")
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


def test_who_is_bound_is_bound_after_a_stop_and_a_start_too(machine: Machine) -> None:
    """The state is in memory, which goes with the stop: its copy is what the next process begins with."""
    session = new_session("stopped and started", players=1)
    with running(machine, session), host_of(session) as host, player_of(session) as player:
        host.ping_until(VALID)
        player.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        machine.run("test", "-e", "/run/relayd/bindings.state")
        machine.systemctl("stop", "relayd")
        assert machine.run("test", "-e", "/run/relayd", check=False).returncode == 1
        machine.systemctl("start", "relayd")
        player.say(GOES_ON)
        assert host.hear() == (connection_id, GOES_ON)


def test_a_relay_that_stands_is_started_anew_and_nothing_sent_meanwhile_is_lost(machine: Machine) -> None:
    session = new_session("stopped", players=1)
    with running(machine, session), host_of(session) as host, player_of(session) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        host.hear()

        def handled() -> float:
            counted = metrics()
            return sum(counted["relayd_datagrams_total", "client", verdict] for verdict in ("forwarded", "no_host"))

        counted_before = eventually(handled, "it is counted, with what relays before have counted here")
        before, pid = sockets(), main_pid(machine)
        machine.systemctl("kill", "--signal=STOP", "relayd")
        eventually(lambda: "State:\tT" in machine.run("cat", f"/proc/{pid}/status").stdout, "it stands")
        host.send_ping()
        for _ in range(10):
            player.say(GOES_ON)
        process_after(machine, pid)
        assert "Watchdog timeout" in machine.log_of("relayd")
        assert sockets() == before
        heard = [host.receive() for _ in range(11)]
        # Of two ports, either may be read first.
        assert heard.count(VALID) == 1
        assert [datagram[5:] for datagram in heard if datagram != VALID] == [GOES_ON] * 10

        # The next process goes on from what was counted before once it has read what was kept.
        eventually(lambda: handled() >= counted_before + 10, "all are counted")
        assert handled() == counted_before + 10
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


def test_commands_of_root_find_the_socket_also_after_a_restart(machine: Machine) -> None:
    with running(machine, new_session("asked")):
        for _ in range(2):
            assert "asked" in machine.run("/usr/local/bin/relayd", "sessions").stdout
            assert machine.run("stat", "-L", "-c", "%a %F", "/run/relayd/admin.sock").stdout == "600 socket\n"
            machine.systemctl("restart", "relayd")


def test_a_stop_leaves_nothing(machine: Machine) -> None:
    session = new_session("ended")
    with running(machine, session), host_of(session) as host:
        assert host.ping() == VALID
    assert machine.property("relayd", "ActiveState") == "inactive"
    assert machine.property("relayd", "Result") == "success"
    assert machine.property("relayd", "ExecMainStatus") == "0"
    assert machine.property("relayd", "NFileDescriptorStore") == "0"
    assert sockets() == {}


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
