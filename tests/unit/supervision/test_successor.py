"""The program that takes over: what it is given, and that one that cannot be started is noticed beforehand."""

import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.supervision.successor import Successor
from tests.support.descriptors import open_descriptors


class ExecutedError(Exception):
    """In the place of another program."""

    def __init__(self, program: str, arguments: list[str], environment: dict[str, str], ports: list[int]) -> None:
        super().__init__(program)
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.ports = ports
        self.hangup = signal.getsignal(signal.SIGHUP)
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened = []
    for _ in range(2):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        opened.append(sock)
    yield opened
    for sock in opened:
        sock.close()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What runs now, as the process knows it."""
    script = tmp_path / "relayd"
    script.write_text("")
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    monkeypatch.setattr(sys, "orig_argv", ["python", str(script), "run", "--config", "x"])
    return script


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """execve ends in an exception; descriptors go to places that nothing else has."""
    places: dict[int, int] = {}
    dup2 = os.dup2

    def execve(name: str, arguments: list[str], environment: dict[str, str]) -> None:
        ports = []
        for number in sorted(places):
            with socket.socket(fileno=places[number]) as sock:
                ports.append(sock.getsockname()[1])
        raise ExecutedError(name, arguments, environment, ports)

    def into_place(fd: int, number: int, inheritable: bool = True) -> int:
        assert inheritable
        if number <= 2:
            return dup2(fd, number)  # whoever captures the output of tests
        places[number] = dup2(fd, 300 + number)
        return number

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(os, "dup2", into_place)
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def test_it_is_started_as_this_one_was_with_the_sockets_in_their_places(
    sockets: list[socket.socket], program: Path, executed: None
) -> None:
    ports = [sock.getsockname()[1] for sock in sockets]
    successor = Successor(sockets, {"HOME": "/", "LISTEN_FDNAMES": "of:before", "LISTEN_FDS": "9"})
    for sock in sockets:
        sock.close()
    successor.hold_reloads()
    with pytest.raises(ExecutedError) as caught:
        successor.replace_this_program()
    it = caught.value
    assert (it.program, it.arguments) == (sys.executable, [sys.executable, str(program), "run", "--config", "x"])
    assert it.ports == ports, "they outlive the objects that this program had"
    assert it.environment == {"HOME": "/", "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    assert it.hangup is signal.SIG_IGN, "a reload meanwhile must not end the process"
    assert signal.SIGHUP not in it.blocked


def test_a_reload_is_held_from_the_moment_the_handler_goes(sockets: list[socket.socket], program: Path) -> None:
    try:
        Successor(sockets, {}).hold_reloads()
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def test_a_program_that_is_gone_is_noticed_before_this_one_ends(sockets: list[socket.socket], program: Path) -> None:
    program.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Successor(sockets, {})
    assert caught.value.filename == str(program)


def test_an_interpreter_that_may_not_be_run_is_noticed(
    sockets: list[socket.socket], program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("")
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(interpreter))
    with pytest.raises(PermissionError):
        Successor(sockets, {})


def test_where_descriptors_run_out_none_stays_behind(
    sockets: list[socket.socket], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    real, left = fcntl.fcntl, iter([True])

    def scarce(fd: int, command: int, argument: int) -> int:
        if not next(left, False):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", scarce)
    with pytest.raises(OSError, match="Too many open files"):
        Successor(sockets, {})
    assert open_descriptors() <= before
