"""A relay as a service of a manager that the test plays."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.integration.config import SessionKeys
from tests.integration.programs import REPOSITORY, Process
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import PATIENCE_SECONDS

# systemd passes descriptors from 3 on, and names the process they are for, which only that process itself knows.
_AS_SYSTEMD_DOES = """
import fcntl, os, sys
fds, program = [int(fd) for fd in sys.argv[1].split(",") if fd], sys.argv[2:]
kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for number, fd in enumerate(kept):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "WATCHDOG_PID": str(os.getpid())}
os.execv(program[0], program)
"""


class Message(NamedTuple):
    lines: list[str]
    fds: list[int]


class Manager:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_SECONDS)

    def hear(self) -> Message:
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 16)
        return Message(data.decode().splitlines(), fds)

    def hear_until(self, line: str) -> list[str]:
        """All that is said before this line, and it."""
        said: list[str] = []
        while line not in said:
            message = self.hear()
            said += message.lines
            for fd in message.fds:
                os.close(fd)
        return said

    def close(self) -> None:
        self.socket.close()


class ManagedRelay(RelayProcess):
    """A relay as a service, with sockets of the process before it; and with a folder of its unit, if that is there."""

    def __init__(
        self,
        folder: Path,
        manager: Manager,
        sessions: list[SessionKeys] | None,
        kept: Sequence[socket.socket] = (),
        **relay: Any,
    ) -> None:
        super().__init__(folder, sessions, {"relay": relay}, ready=False)
        self._manager = manager
        self._kept = [sock.fileno() for sock in kept]

    @property
    def _unit_folder(self) -> Path:
        return self.folder / "run"

    @property
    def socket_path(self) -> Path:
        return self._unit_folder / "admin.sock" if self._unit_folder.exists() else super().socket_path

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        unit = {"RUNTIME_DIRECTORY": str(self._unit_folder)} if self._unit_folder.exists() else {}
        return subprocess.Popen(
            [sys.executable, "-c", _AS_SYSTEMD_DOES, ",".join(map(str, self._kept)), *arguments],
            stdout=out,
            stderr=err,
            cwd=REPOSITORY,
            env={**environment(), **unit, "NOTIFY_SOCKET": self._manager.address, "WATCHDOG_USEC": "400000"},
            pass_fds=self._kept,
        )
