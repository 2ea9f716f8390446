"""Sockets that were kept for this process: which are taken up, and what becomes of those that do not fit."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.settings import RelaySettings
from relayd.supervision import service_manager
from relayd.supervision.kept_sockets import NOTHING_KEPT, take_kept_sockets
from relayd.supervision.service_manager import ServiceManager
from tests.support.managers import ListeningManager

NO_SOCKET = Path("/nowhere/admin.sock")


def bound(kind: int = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


class Passed:
    """Descriptors one after another, as systemd leaves them, and the variables that name them."""

    def __init__(self) -> None:
        self.first_fd = 50 + max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        self.count = 0
        self.names: list[str] = []
        self.ports: list[int] = []

    def add(self, sock: socket.socket, name: str = "") -> None:
        self.ports.append(sock.getsockname()[1] if sock.family is socket.AF_INET else 0)
        wanted = self.first_fd + self.count
        assert fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, wanted) == wanted
        self.count += 1
        self.names.append(name)
        sock.close()

    def environment(self, **more: str) -> dict[str, str]:
        variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(self.count)}
        if any(self.names):
            variables["LISTEN_FDNAMES"] = ":".join(self.names)
        return variables | more

    def still_open(self) -> list[int]:
        found = []
        for fd in range(self.first_fd, self.first_fd + self.count):
            try:
                os.fstat(fd)
            except OSError:
                continue
            found.append(fd)
        return found


def settings_for(server_port: int, client_port: int) -> RelaySettings:
    return RelaySettings(bind=["127.0.0.1"], server_port=server_port, client_port=client_port)


@pytest.fixture
def passed() -> Iterator[Passed]:
    one = Passed()
    yield one
    for fd in one.still_open():
        os.close(fd)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ListeningManager, ServiceManager]]:
    monkeypatch.setattr(service_manager, "_PATIENCE_SECONDS", 0.0)
    listening = ListeningManager(tmp_path)
    manager = ServiceManager(listening.address)
    yield listening, manager
    manager.close()
    listening.close()


def test_those_that_fit_are_taken_up(passed: Passed) -> None:
    for _ in range(2):
        passed.add(bound())
    environment = passed.environment(HOME="/")
    with capture_logs() as logs:
        kept = take_kept_sockets(environment, settings_for(*passed.ports), None, NO_SOCKET, passed.first_fd).ports
    assert [sock.getsockname()[1] for sock in kept] == passed.ports
    assert not any(sock.get_inheritable() or sock.getblocking() for sock in kept)
    assert environment == {"HOME": "/"}, "they are meant for one process alone"
    assert [len(line["sockets"]) for line in logs] == [2]
    for sock in kept:
        sock.close()


def test_those_that_do_not_fit_are_closed_here_and_where_they_are_kept(
    passed: Passed, told: tuple[ListeningManager, ServiceManager]
) -> None:
    passed.add(bound(), "udp-old")
    passed.add(bound(socket.SOCK_STREAM), "tcp")
    passed.add(bound())
    listening, manager = told
    kept = take_kept_sockets(
        passed.environment(), settings_for(passed.ports[2], 1), manager, NO_SOCKET, passed.first_fd
    ).ports
    assert [sock.getsockname()[1] for sock in kept] == [passed.ports[2]]
    assert passed.still_open() == [passed.first_fd + 2]
    lines = listening.lines()
    assert lines[:4] == ["FDSTOREREMOVE=1", "FDNAME=udp-old", "FDSTOREREMOVE=1", "FDNAME=tcp"]
    for sock in kept:
        sock.close()


def test_one_without_a_name_is_taken_out_under_the_name_it_was_given(
    passed: Passed, told: tuple[ListeningManager, ServiceManager]
) -> None:
    passed.add(bound())
    listening, manager = told
    assert (
        take_kept_sockets(passed.environment(), settings_for(1, 2), manager, NO_SOCKET, passed.first_fd) == NOTHING_KEPT
    )
    assert f"FDNAME=udp-127.0.0.1-{passed.ports[0]}" in listening.lines()


def test_what_is_no_socket_is_closed(passed: Passed, tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    assert fcntl.fcntl(file, fcntl.F_DUPFD, passed.first_fd) == passed.first_fd
    os.close(file)
    passed.count = 2  # the second is none at all
    assert take_kept_sockets(passed.environment(), settings_for(1, 2), None, NO_SOCKET, passed.first_fd) == NOTHING_KEPT
    assert passed.still_open() == []


def listening_at(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_a_replaced_programs_socket_for_commands_is_taken_up(passed: Passed, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    passed.add(listening_at(path))
    kept = take_kept_sockets(passed.environment(), settings_for(1, 2), None, path, passed.first_fd)
    assert kept.ports == []
    assert kept.admin is not None
    assert kept.admin.getsockname() == str(path)
    assert not kept.admin.get_inheritable() and not kept.admin.getblocking()
    kept.admin.close()


def test_one_that_listened_elsewhere_is_closed_and_its_file_removed(passed: Passed, tmp_path: Path) -> None:
    passed.add(listening_at(tmp_path / "before.sock"))
    kept = take_kept_sockets(passed.environment(), settings_for(1, 2), None, tmp_path / "admin.sock", passed.first_fd)
    assert kept == NOTHING_KEPT
    assert passed.still_open() == []
    assert list(tmp_path.iterdir()) == []


def test_a_connection_is_no_socket_for_commands(passed: Passed, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening_at(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        taken, _ = listener.accept()
        passed.add(taken)
        kept = take_kept_sockets(passed.environment(), settings_for(1, 2), None, path, passed.first_fd)
        assert kept == NOTHING_KEPT
        assert path.exists(), "somebody listens there"


@pytest.mark.parametrize("odd", [{"LISTEN_PID": "1"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": ""}])
def test_what_is_meant_for_another_process_is_left_alone(passed: Passed, odd: dict[str, str]) -> None:
    passed.add(bound())
    environment = passed.environment(**odd)
    assert (
        take_kept_sockets(environment, settings_for(passed.ports[0], 2), None, NO_SOCKET, passed.first_fd)
        == NOTHING_KEPT
    )
    assert passed.still_open() == [passed.first_fd]
    assert environment == {}
