"""relayd's own programs as processes on free loopback ports, started and stopped by the benchmark."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

KEY = "a key for the time of the benchmark"
_PATIENCE_SECONDS = 60.0


def free_port(kind: socket.SocketKind) -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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


def write_configuration(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Plain values as TOML."""
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value!r}" for key, value in values.items()]
    path.write_text("\n".join(lines).replace("True", "true").replace("False", "false"), encoding="utf-8")


class Program:
    """A command of relayd with a configuration of its own; ended by SIGTERM."""

    def __init__(self, folder: Path, name: str, sections: dict[str, dict[str, Any]], *command: str) -> None:
        self._command = command
        self._config = folder / f"{name}.toml"
        self._log = folder / f"{name}.log"
        (folder / "key").write_text(KEY, encoding="utf-8")
        write_configuration(self._config, sections)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def __enter__(self) -> Self:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RELAYD_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "relayd", *self._command, "--config", str(self._config)],
                stdout=log,
                stderr=log,
                env=environment,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
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
