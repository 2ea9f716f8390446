"""relayd's own programs as processes on free loopback ports, started and stopped by the benchmark."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench.ports import free_port

KEY = "a key for the time of the benchmark"
_PATIENCE_SECONDS = 60.0


def wait_for(done: Callable[[], bool], what: str, poll_seconds: float = 0.01) -> None:
    """Returns as soon as ``done``; ends the benchmark if that never happens."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up waiting: {what}")
        time.sleep(poll_seconds)


def answers(url: str) -> bool:
    """Whether a GET of that address is answered with 200."""
    try:
        return httpx.get(url, trust_env=False, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on that core, with all its threads."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# sd_listen_fds(3): descriptors from 3 on, and the id of the process they are for, which only that itself knows.
_AS_SYSTEMD_DOES = """
import fcntl, os, sys
fds, program = [int(fd) for fd in sys.argv[1].split(",")], sys.argv[2:]
kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for number, fd in enumerate(kept):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
os.execv(program[0], program)
"""


@contextmanager
def kept_sockets(*addresses: tuple[str, int]) -> Iterator[list[socket.socket]]:
    """UDP sockets on these addresses, for a relay that is started again and again."""
    with ExitStack() as stack:
        kept = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in addresses]
        for sock, address in zip(kept, addresses, strict=True):
            sock.bind(address)
        yield kept


class Program:
    """A command of relayd with a configuration of its own; ended by SIGTERM.

    Args:
        folder: for its files.
        name: of these files.
        sections: its configuration.
        command: what is run.
        core: where it runs; anywhere by default.
        kept: sockets that it is given as systemd does, each time that it is started.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        sections: dict[str, dict[str, Any]],
        *command: str,
        core: int | None = None,
        kept: Sequence[socket.socket] = (),
    ) -> None:
        self._command = command
        self._kept = [sock.fileno() for sock in kept]
        self._core = core
        self._config = folder / f"{name}.toml"
        self._log = folder / f"{name}.log"
        (folder / "key").write_text(KEY, encoding="utf-8")
        lines: list[str] = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value!r}" for key, value in values.items()]
        self._config.write_text("\n".join(lines).replace("True", "true").replace("False", "false"), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def check_alive(self) -> None:
        """Ends the benchmark, with the last of the program's log, where the program has ended."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise SystemExit(f"{' '.join(self._command)} ended with status {status}")

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def start(self, *options: str) -> None:
        """Starts it, with these options besides."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RELAYD_")}
        with self._log.open("ab") as log, on_core(self._core):
            program = [sys.executable, "-m", "relayd", *self._command, *options, "--config", str(self._config)]
            if self._kept:
                # Without what Python would look for first: systemd takes no time for it.
                program = [sys.executable, "-I", "-S", "-c", _AS_SYSTEMD_DOES, ",".join(map(str, self._kept)), *program]
            self._process = subprocess.Popen(program, stdout=log, stderr=log, env=environment, pass_fds=self._kept)

    def stop(self) -> None:
        """Ends it by SIGTERM, and returns when it has ended."""
        if self._process is not None:
            self._process.terminate()
            self.wait()

    def wait(self) -> None:
        """Returns when it has ended."""
        if self._process is not None:
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            print(self._log.read_text(encoding="utf-8")[-2000:], file=sys.stderr)


class ControlPlane(Program):
    """`relayd control-plane`."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        api = {"bind": self.url.removeprefix("http://"), "token_file": "key", "database": "bench.sqlite3"}
        super().__init__(folder, "control-plane", {"api": api, "log": {"level": "warning"}}, "control-plane")
        self.client = httpx.Client(
            base_url=self.url, headers={"authorization": f"token {KEY}"}, trust_env=False, timeout=60.0
        )

    def __enter__(self) -> Self:
        super().__enter__()
        wait_for(lambda: answers(f"{self.url}/docs"), "the control plane answers")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()
        super().__exit__(kind, error, at)


def relay_sections(folder: Path, control_plane_url: str) -> dict[str, dict[str, Any]]:
    """The configuration of a relay that follows that control plane."""
    return {
        "relay": {
            "id": "bench",
            "public_ip": "127.0.0.1",
            "bind": ["127.0.0.1"],
            "server_port": free_port(socket.SOCK_DGRAM),
            "client_port": free_port(socket.SOCK_DGRAM),
        },
        "source": {"kind": "control_plane", "url": control_plane_url, "token_file": "key"},
        "admin": {"bind": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"},
        "state": {"directory": str(folder / "state")},
        "limits": {"refusals_per_source_per_second": 10_000, "refusals_per_second": 10_000, "rebind_after": 0.0},
        "log": {"level": "warning"},
    }


class Relay(Program):
    """`relayd run` on the source control_plane."""

    def __init__(self, folder: Path, control_plane_url: str) -> None:
        sections = relay_sections(folder, control_plane_url)
        self.client_address = ("127.0.0.1", int(sections["relay"]["client_port"]))
        self._ready_url = f"http://{sections['admin']['bind']}/readyz"
        super().__init__(folder, "relay", sections, "run")

    def __enter__(self) -> Self:
        super().__enter__()
        wait_for(lambda: answers(self._ready_url), "the relay is ready")
        return self
