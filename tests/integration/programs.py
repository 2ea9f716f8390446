"""Starts `relayd` as a child of this process.

To import all of it takes more processor time than everything else that a start does, and the tests start it a thousand
times. So a process that has imported it, and does nothing else, is forked each time: see forked.py. What comes of that
is what `python -m relayd` would be, from `relayd.__main__` on: a process of its own with its own arguments, variables,
files and network. With a command before it, or in another folder, it gets an interpreter of its own.
"""

import atexit
import ctypes
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

from tests.integration.waiting import PATIENCE_SECONDS

Done = subprocess.CompletedProcess[str]

REPOSITORY = Path(__file__).parents[2]

_OWN_VARIABLES = ("RELAYD_", "PYTEST_", "RUNTIME_DIRECTORY")
"""What differs from start to start: settings, a unit's folder, and pytest's name of the test."""
_THREADS_NETWORK = "/proc/thread-self/ns/net"
_NETWORK = os.open(_THREADS_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
"""That of this process, which no test has moved yet."""
_PR_SET_CHILD_SUBREAPER = 36
_forking = threading.Lock()
"""Held by the one thread that has a process forked: what `_adopting` sets is the whole process's."""


class Process(Protocol):
    """What a `subprocess.Popen` and one that was forked have in common."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def command(*arguments: str) -> list[str]:
    """`relayd` with these arguments."""
    return [sys.executable, "-m", "relayd", *arguments]


def start(arguments: list[str], out: IO[bytes], err: IO[bytes], variables: Mapping[str, str]) -> Process:
    """Runs a command in the folder of this repository, in the network of the thread that calls.

    Args:
        arguments: the program and what it is given.
        out: its standard output.
        err: its standard error.
        variables: its environment, all of it.
    """
    if arguments[:3] != command():
        return subprocess.Popen(arguments, stdout=out, stderr=err, cwd=REPOSITORY, env=variables)
    own = {name: value for name, value in variables.items() if name.startswith(_OWN_VARIABLES)}
    # Python reads what is meant for it, and libc its locale, when they start: not after a fork.
    return _prepared(frozenset(variables.items() - own.items())).fork(arguments, out, err, own)


def run(arguments: list[str], variables: Mapping[str, str]) -> Done:
    """Runs a command to its end: see `start`."""
    with TemporaryFile() as out, TemporaryFile() as err:
        process = start(arguments, out, err, variables)
        try:
            status = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
        return Done(arguments, status, *(_text(file) for file in (out, err)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Prepared:
    """A process that has imported relayd."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = theirs.fileno(), _NETWORK
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.forked", *map(str, fds)],
                cwd=REPOSITORY,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
            )
        atexit.register(self._end)

    def fork(self, arguments: list[str], out: IO[bytes], err: IO[bytes], own: dict[str, str]) -> "_Forked":
        network = os.open(_THREADS_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with _forking, _adopting():
                request = json.dumps([arguments, own]).encode()
                socket.send_fds(self._channel, [request], [out.fileno(), err.fileno(), network])
                pid = int(self._channel.recv(64) or b"0")
        finally:
            os.close(network)
        assert pid, f"the process that has imported relayd ended with {self._process.poll()}"
        return _Forked(pid)

    def _end(self) -> None:
        self._channel.close()
        self._process.wait()


_prepared = functools.cache(lambda variables: _Prepared(dict(variables)))


@contextmanager
def _adopting() -> Iterator[None]:
    """Grandchildren whose parent ends become children of this process, by PR_SET_CHILD_SUBREAPER(2const)."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


class _Forked:
    """A child of this process, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self._status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
                    os.close(self._pidfd)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None and not self._ends_within(timeout):
            raise subprocess.TimeoutExpired(command(), timeout or 0.0)
        status = self.poll()
        assert status is not None
        return status

    def _ends_within(self, timeout: float | None) -> bool:
        # Not select(2), which takes no descriptor above 1023.
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        return bool(waiting.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, sig: int) -> None:
        with self._lock:
            if self._status is None:
                signal.pidfd_send_signal(self._pidfd, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
