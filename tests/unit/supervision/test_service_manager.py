"""What the service manager is told, byte by byte, and what becomes of a manager that cannot be told."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.supervision.service_manager import BEATS_IN_TIME, ServiceManager
from tests.support.descriptors import open_descriptors
from tests.support.managers import ListeningManager
from tests.support.virtual_loop import Running, run


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[ListeningManager]:
    manager = ListeningManager(tmp_path)
    yield manager
    manager.close()


def test_lines_of_one_message_arrive_together(listening: ListeningManager) -> None:
    manager = ServiceManager(listening.address)
    assert manager.tell("READY=1", "STATUS=fine")
    assert manager.tell("WATCHDOG=1")
    assert [message.lines for message in listening.messages()] == [["READY=1", "STATUS=fine"], ["WATCHDOG=1"]]
    manager.close()


def test_file_descriptors_go_with_a_message(listening: ListeningManager) -> None:
    manager = ServiceManager(listening.address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert manager.tell("FDSTORE=1", fds=[sock.fileno()])
        (message,) = listening.messages()
        (fd,) = message.fds
        with socket.socket(fileno=fd) as same:
            assert same.getsockname() == sock.getsockname()
    manager.close()


def test_a_failure_is_said_once_until_it_worked_again(listening: ListeningManager, tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "nobody"))
    with capture_logs() as logs:
        assert not manager.tell("READY=1")
        assert not manager.tell("READY=1")
        (tmp_path / "nobody").symlink_to(listening.address)
        assert manager.tell("READY=1")
        (tmp_path / "nobody").unlink()
        assert not manager.tell("READY=1")
    assert len(logs) == 2
    manager.close()


def test_a_manager_that_does_not_read_holds_nobody_up(listening: ListeningManager) -> None:
    manager = ServiceManager(listening.address)
    told = 0
    with capture_logs():
        while manager.tell("STATUS=" + "x" * 1000):
            told += 1
            assert told < 100_000
    assert len(listening.messages()) == told
    manager.close()


@pytest.mark.parametrize("address", ["/run/notify", "@abstract"])
def test_the_environment_names_it_and_loses_the_names(address: str) -> None:
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    manager = ServiceManager.from_environment(environment)
    assert manager is not None
    assert manager.watchdog_seconds == 20.0
    assert environment == {"A": "b"}
    manager.close()


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}]
)
def test_a_watchdog_that_is_off_or_for_another_process_is_none(watchdog: dict[str, str]) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "/run/notify"} | watchdog)
    assert manager is not None
    assert manager.watchdog_seconds is None
    manager.close()


def test_where_none_is_named_there_is_none() -> None:
    assert ServiceManager.from_environment({"WATCHDOG_USEC": "1"}) is None


def test_an_address_of_another_kind_is_said_to_be_of_no_use() -> None:
    with capture_logs() as logs:
        assert ServiceManager.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}) is None
    assert [line["log_level"] for line in logs] == ["warning"]


def test_an_abstract_name_is_understood() -> None:
    name = f"relayd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.setblocking(False)
        manager = ServiceManager("@" + name)
        assert manager.tell("READY=1")
        assert listening.recv(100) == b"READY=1"
        manager.close()


def test_the_watchdog_is_fed_several_times_within_its_time(listening: ListeningManager) -> None:
    async def work() -> None:
        manager = ServiceManager(listening.address, watchdog_seconds=20.0)
        listening.read_along()
        async with Running(manager.watch_forever()):
            await asyncio.sleep(59.9)
        assert listening.lines() == ["WATCHDOG=1"] * (3 * BEATS_IN_TIME)
        manager.close()

    run(work())


def test_where_nobody_watches_nothing_is_said(listening: ListeningManager) -> None:
    manager = ServiceManager(listening.address)
    run(manager.watch_forever())
    assert listening.messages() == []
    manager.close()


def test_a_barrier_is_over_when_the_manager_lets_go_of_it(listening: ListeningManager) -> None:
    manager = ServiceManager(listening.address)
    heard: list[str] = []

    def read() -> None:
        while not heard:
            heard.extend(listening.lines())

    reader = threading.Thread(target=read)
    reader.start()
    manager.wait_until_heard()
    reader.join()
    assert heard == ["BARRIER=1"]
    manager.close()


def test_where_the_manager_is_gone_nobody_waits_for_it(tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "nobody"))
    before = open_descriptors()
    with capture_logs():
        manager.wait_until_heard()
    assert open_descriptors() <= before
    manager.close()
