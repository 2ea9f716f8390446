"""A relay whose sockets outlive it, as under systemd: it may be killed and started anew with nothing lost between."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.processes import answers, wait_for, write_configuration

_HIGH_FD = 100
"""Above those that a service manager passes sockets as."""
# Sockets come as descriptors from 3 on, and for a process whose number only it itself knows.
_PASS_ON = """
import os, sys
fds, command = sys.argv[1].split(","), sys.argv[2:]
for number, fd in enumerate(fds):
    os.dup2(int(fd), 3 + number)
    os.close(int(fd))
os.execve(command[0], command, {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))})
"""


class KeptRelay:
    """`relayd run` on sockets of this process.

    Args:
        folder: for configuration and log.
        sections: the configuration; one address, IPv4.
    """

    def __init__(self, folder: Path, sections: dict[str, dict[str, Any]]) -> None:
        self._config = folder / "relay.toml"
        self._log = folder / "relay.log"
        self._ready_url = f"http://{sections['admin']['bind']}/readyz"
        self.server_address = (sections["relay"]["bind"][0], int(sections["relay"]["server_port"]))
        self.client_address = (sections["relay"]["bind"][0], int(sections["relay"]["client_port"]))
        self._sockets = [_kept(address) for address in (self.server_address, self.client_address)]
        self._process: subprocess.Popen[bytes] | None = None
        write_configuration(self._config, sections)

    def start(self) -> None:
        """Starts it. It is not ready then."""
        fds = [sock.fileno() for sock in self._sockets]
        command = [sys.executable, "-m", "relayd", "run", "--config", str(self._config)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RELAYD_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PASS_ON, ",".join(map(str, fds)), *command],
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=fds,
            )

    def wait_until_ready(self) -> None:
        """Returns once it has sessions."""
        wait_for(lambda: answers(self._ready_url), "the relay is ready")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        for sock in self._sockets:
            sock.close()
        if error is not None:
            print(self._log.read_text(encoding="utf-8")[-4000:], file=sys.stderr)


def _kept(address: tuple[str, int]) -> socket.socket:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH_FD))
