"""What a relay tells its service manager and takes from the process before it; the manager is the test's own."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.ports import free_ports
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping
from relayd.forwarding.sockets import BoundSocket, open_sockets
from relayd.settings import RelaySettings
from relayd.supervision.kept_sockets import NOTHING_KEPT, take_kept_sockets
from relayd.supervision.probes import ProbedEngine, Probes
from relayd.supervision.service_manager import ServiceManager
from tests.integration.config import configuration, new_session
from tests.integration.managed_relay import ManagedRelay, Manager
from tests.integration.peers import VALID
from tests.integration.relay_process import RelayProcess, datagrams_in
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.unix_http import connected
from tests.integration.waiting import PATIENCE_SECONDS, eventually

NO_SOCKET = Path("/nowhere/admin.sock")


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = getattr(request, "param", "path")
    heard = Manager(f"@relayd-test-{os.getpid()}" if address == "abstract" else str(tmp_path / "notify"))
    yield heard
    heard.close()


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_it_tells_how_it_stands_from_start_to_end(manager: Manager, tmp_path: Path) -> None:
    relay = ManagedRelay(tmp_path, manager, None)
    with relay:
        assert manager.hear().lines == ["EXTEND_TIMEOUT_USEC=10000000"]
        stored = [manager.hear() for _ in range(2)]
        ports = [relay.settings["relay"][f"{port}_port"] for port in ("server", "client")]
        for message, port in zip(stored, ports, strict=True):
            assert message.lines == ["FDSTORE=1", f"FDNAME=udp-127.0.0.1-{port}", "FDPOLL=0"]
            with socket.socket(fileno=message.fds[0]) as sock:
                assert sock.getsockname() == ("127.0.0.1", port)
        waiting = manager.hear_until("EXTEND_TIMEOUT_USEC=10000000") + manager.hear_until(
            "EXTEND_TIMEOUT_USEC=10000000"
        )
        assert waiting[0] == "STATUS=no sessions yet: still reading them"
        assert f"STATUS=no sessions yet: {relay.sessions_path}: cannot be read: No such file or directory" in waiting
        assert "READY=1" not in waiting

        relay.write_sessions([new_session("first")])
        assert "STATUS=1 sessions, 0 of them playing" in manager.hear_until("READY=1")
        manager.hear_until("WATCHDOG=1")

        relay.write_sessions([new_session("first"), new_session("second")])
        relay.process.send_signal(signal.SIGHUP)
        manager.hear_until("RELOADING=1")
        manager.hear_until("READY=1")
        assert relay.metrics()["relayd_sessions",] == 2

        relay.sessions_path.write_text("not JSON")
        relay.process.send_signal(signal.SIGHUP)
        manager.hear_until("RELOADING=1")
        said = manager.hear_until("READY=1")
        assert any("2 sessions, 0 of them playing; the session source is not followed" in line for line in said)
        # The file is not there at first, may be seen empty, and is not JSON.
        relay.allowed_errors = 3
        relay.process.send_signal(signal.SIGTERM)
        manager.hear_until("STOPPING=1")


def test_it_forwards_while_a_request_keeps_it_from_ending(manager: Manager, tmp_path: Path) -> None:
    session = new_session("playing")
    others = [new_session(f"other-{number:0120}") for number in range(1000)]
    with ManagedRelay(tmp_path, manager, [session, *others]) as relay, relay.player(session) as player:
        manager.hear_until("READY=1")
        with connected(relay.socket_path) as slow:
            # The answer is longer than what the two sockets hold, and is not read.
            slow.sendall(b"GET /v1/sessions HTTP/1.1\r\nHost: relay\r\n\r\n")
            assert slow.recv(12) == b"HTTP/1.1 200"
            relay.process.send_signal(signal.SIGTERM)
            manager.hear_until("STOPPING=1")
            for _ in range(3):
                assert player.ping() == VALID


@pytest.mark.parametrize("forwarder", ["native", "python"])
def test_its_own_probes_are_not_counted(forwarder: str, manager: Manager, tmp_path: Path) -> None:
    with ManagedRelay(tmp_path, manager, [new_session("quiet")], forwarder=forwarder) as relay:
        for _ in range(5):
            manager.hear_until("WATCHDOG=1")
        assert not any(count.datagrams for count in relay.counts().values())


@pytest.mark.parametrize("forwarder", ["native", "python"])
def test_a_flood_does_not_set_the_watchdog_off(forwarder: str, manager: Manager, tmp_path: Path) -> None:
    with ManagedRelay(tmp_path, manager, [new_session("flooded")], forwarder=forwarder) as relay:
        manager.hear_until("WATCHDOG=1")
        over = threading.Event()

        def flood() -> None:
            junk = os.urandom(8) + b"\x02junk"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                while not over.is_set():
                    for _ in range(1000):
                        stranger.sendto(junk, relay.address("client"))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for _ in range(20):
                manager.hear_until("WATCHDOG=1")
        finally:
            over.set()
            flooding.join()


def test_datagrams_that_waited_in_a_kept_socket_are_served(manager: Manager, tmp_path: Path) -> None:
    session = new_session("waiting")
    relay = RelayProcess(tmp_path, [session])
    relay.settings = configuration()
    sockets, _ = open_sockets(RelaySettings(**relay.settings["relay"]))
    with relay.host(session) as host, relay.player(session) as player:
        host.send_ping()
        player.send_ping()
        kept = [one.socket for one in sockets]
        with ManagedRelay(tmp_path, manager, [session], kept, **relay.settings["relay"]) as again:
            assert again.log_lines(event="sockets of the process before are used")
            assert (host.receive(), player.receive()) == (VALID, VALID)
            assert datagrams_in(again.counts()) == 2
    for one in sockets:
        one.socket.close()


def test_it_ends_at_once_while_it_waits_for_the_sessions_of_those_who_were_bound(
    manager: Manager, tmp_path: Path
) -> None:
    session = new_session("before")
    relay = RelayProcess(tmp_path, [session])
    relay.settings = configuration()
    sockets, _ = open_sockets(RelaySettings(**relay.settings["relay"]))
    kept = [one.socket for one in sockets]
    with relay.player(session) as player:
        with ManagedRelay(tmp_path, manager, [session], kept, **relay.settings["relay"]):
            assert player.ping() == VALID
        relay.sessions_path.unlink()
        player.send_ping()
        again = ManagedRelay(tmp_path, manager, None, kept, **relay.settings["relay"])
        again._spawn()
        try:
            manager.hear_until(
                f"STATUS=no sessions yet: {relay.sessions_path}: cannot be read: No such file or directory"
            )
            again.process.send_signal(signal.SIGTERM)
            assert again.process.wait() == 0
        finally:
            again.kill()
        assert not again.log_lines(event="relay started")
        # Nobody was told anything: what was sent is there for the next.
        assert [sock.recv(100) for sock in kept[1:]] == [encode_ping(session.players[0], session.token)]
    for one in sockets:
        one.socket.close()


def test_those_who_joined_a_moment_before_a_crash_are_told_nothing_else(manager: Manager, tmp_path: Path) -> None:
    """Their session is newer than the last good ones, with which a relay starts."""
    session = new_session("young")
    with StandIn(nodes=True) as control_plane, ExitStack() as stack:
        state = tmp_path / "state"
        settings = configuration(
            {
                "source": {"kind": "control_plane", "url": control_plane.url},
                "state": {"directory": str(state)},
            }
        )
        kept = [stack.enter_context(one.socket) for one in open_sockets(RelaySettings(**settings["relay"]))[0]]

        def start() -> ManagedRelay:
            relay = ManagedRelay(tmp_path, manager, None, kept)
            relay._overrides = settings
            relay._spawn()
            stack.callback(relay.kill)
            return relay

        relay = start()
        ports = relay.settings["relay"]
        control_plane.sessions.append(relay_session(session, "127.0.0.1", ports["server_port"], ports["client_port"]))
        control_plane.changed()
        eventually(relay._is_up, "it runs")
        with relay.player(session) as player:
            player.ping_until(VALID)
            relay.kill()
            (state / "last-good-sessions.json").write_text('{"sessions": []}', encoding="utf-8")
            player.send_ping()
            start()
            assert player.receive() == VALID


def test_the_watchdog_does_not_end_a_relay_that_waits_for_its_sessions(manager: Manager, tmp_path: Path) -> None:
    """In an upgrade the watchdog of the program before runs on; sockets are not read before there are sessions."""
    session = new_session("late")
    relay = RelayProcess(tmp_path, None)
    relay.settings = configuration()
    sockets, _ = open_sockets(RelaySettings(**relay.settings["relay"]))
    with relay.player(session) as player:
        player.send_ping()
        kept = [one.socket for one in sockets]
        with ManagedRelay(tmp_path, manager, None, kept, **relay.settings["relay"]) as again:
            again.allowed_errors = 1
            for _ in range(3):
                assert "READY=1" not in manager.hear_until("WATCHDOG=1")
            again.write_sessions([session])
            manager.hear_until("READY=1")
            assert not again.log_lines(event="sockets are not read")
    for one in sockets:
        one.socket.close()


def passed(count: int, **more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), **more}


def settings_on(ports: list[int], *bind: str) -> RelaySettings:
    return RelaySettings(bind=list(bind), server_port=ports[0], client_port=ports[1])


def as_passed(*files: int) -> int:
    """Puts copies of them at file descriptors that follow one another; returns the first."""
    first = 200
    for number, fd in enumerate(files):
        os.dup2(fd, first + number)
    return first


@pytest.mark.parametrize("named", [True, False])
def test_what_was_kept_and_does_not_fit_is_let_go(tmp_path: Path, named: bool) -> None:
    """Also where nobody says under which names, as for a program that replaced another."""
    heard = Manager(str(tmp_path / "notify"))
    ports = free_ports(3)
    old, _ = open_sockets(settings_on(ports[1:], "127.0.0.1"))
    tcp = socket.socket()
    reading, writing = os.pipe()
    first = as_passed(old[0].socket.fileno(), old[1].socket.fileno(), tcp.fileno(), reading)
    variables = passed(4, LISTEN_FDNAMES="fits:gone:tcp") if named else passed(4)
    let_go = ("gone", "tcp", "unknown") if named else (f"udp-127.0.0.1-{ports[2]}", "unknown", "unknown")
    told: list[list[str]] = []

    def manage() -> None:
        while not told or told[-1] != ["BARRIER=1"]:
            message = heard.hear()
            told.append(message.lines)
            for fd in message.fds:
                os.close(fd)

    managing = threading.Thread(target=manage)
    managing.start()
    said = ServiceManager(heard.address)
    kept = take_kept_sockets(variables, settings_on([ports[0], ports[1]], "127.0.0.1"), said, NO_SOCKET, first).ports
    managing.join(PATIENCE_SECONDS)
    assert variables == {}
    assert [sock.fileno() for sock in kept] == [first]
    assert not kept[0].get_inheritable()
    assert told == [
        *(["FDSTOREREMOVE=1", f"FDNAME={name}"] for name in let_go),
        ["BARRIER=1"],
    ]
    for gone in range(first + 1, first + 4):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(gone)
    for sock in (*kept, *(one.socket for one in old), tcp):
        sock.close()
    os.close(reading)
    os.close(writing)
    said.close()
    heard.close()


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    variables = {**passed(1), "LISTEN_PID": "1"}
    assert take_kept_sockets(variables, settings_on(free_ports(2), "127.0.0.1"), None, NO_SOCKET) == NOTHING_KEPT
    assert variables == {}


def test_descriptors_that_are_none_are_passed_over() -> None:
    first = as_passed()
    assert (
        take_kept_sockets(passed(2), settings_on(free_ports(2), "127.0.0.1"), None, NO_SOCKET, first + 50)
        == NOTHING_KEPT
    )


def test_kept_sockets_of_both_families_are_used_as_they_are() -> None:
    settings = settings_on(free_ports(2), "127.0.0.1", "::1")
    old, _ = open_sockets(settings)
    new, _ = open_sockets(settings, [one.socket for one in reversed(old)])
    assert [one.socket for one in new] == [one.socket for one in old]
    for one in old:
        one.socket.close()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(variables: dict[str, str], seconds: float | None) -> None:
    variables["NOTIFY_SOCKET"] = "/run/notify"
    manager = ServiceManager.from_environment(variables)
    assert manager is not None
    assert manager.watchdog_seconds == seconds
    assert variables == {}
    manager.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_without_a_manager_nobody_is_told(address: str) -> None:
    assert ServiceManager.from_environment({"NOTIFY_SOCKET": address}) is None


def test_a_manager_that_is_gone_or_deaf_stops_nothing(tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "gone"))
    assert not manager.tell("READY=1")
    deaf = Manager(str(tmp_path / "gone"))
    assert manager.tell("READY=1")
    while manager.tell("WATCHDOG=1"):
        pass
    manager.wait_until_heard()
    manager.close()
    deaf.close()


def test_a_socket_that_is_not_read_shows() -> None:
    settings = settings_on(free_ports(2), "127.0.0.1", "::1")
    sockets, _ = open_sockets(settings)
    engine = ProbedEngine(Table(Limits(), lambda: 1))
    probes = Probes(engine, sockets)

    def read(*which: BoundSocket) -> None:
        for endpoint, sock in which:
            data, source = sock.recvfrom(2048)
            assert engine.handle(endpoint, data, source, 0.0).endpoint is None

    assert probes.unread() == []
    for _ in range(2):
        read(*sockets)
        assert probes.unread() == []
    read(*sockets[:3])
    assert probes.unread() == [sockets[3].endpoint]
    assert probes.unread() == [one.endpoint for one in sockets]
    assert not any(map(sum, engine.counters.datagrams))
    # Whoever else sends as much as a probe is counted.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(bytes(1201), sockets[0].socket.getsockname())
        while not any(map(sum, engine.counters.datagrams)):
            read(sockets[0])
    assert engine.counters.datagrams[Port.SERVER][Verdict.TOO_LONG] == 1
    probes.close()
    for one in sockets:
        one.socket.close()
