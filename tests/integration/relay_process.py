"""A relay under test: the real program in a process of its own, with configuration and session file in a folder."""

import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.config import Sections, SessionKeys, configuration, forms_of, to_toml, write_sessions
from tests.integration.peers import Address, Host, Player
from tests.integration.programs import REPOSITORY, Process, command, start
from tests.integration.unix_http import UnixConnection
from tests.integration.waiting import PATIENCE_SECONDS, eventually

_PORT_TAKEN = 69
_STARTS = 5
_SHORTEST_SECRET = 1 << 24
"""Smaller numbers stand in outputs by chance."""


class Count(NamedTuple):
    """How far a counter moved."""

    datagrams: int
    bytes: int


Counts = dict[str, Count]
"""By ``port verdict`` and, for refusals that were told, ``port told state``."""


def counted(port: str, verdict: str, *datagrams: bytes) -> Counts:
    """What these datagrams should have added."""
    return {f"{port} {verdict}": Count(len(datagrams), sum(map(len, datagrams)))}


def told(port: str, state: str, times: int = 1) -> Counts:
    return {f"{port} told {state}": Count(times, 0)}


class _PortTakenError(Exception):
    """The relay found one of its ports taken."""


def environment() -> dict[str, str]:
    """This process's environment without what would configure a relay."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.upper().startswith("RELAYD_") and key != "RUNTIME_DIRECTORY"
    }


def _options(arguments: tuple[str, ...]) -> list[str]:
    """With the tests' relays on the fast path, each has to make room for the next."""
    return ["--detach-on-exit"] if arguments == ("run",) and "RELAYD_TEST_FAST_PATH" in os.environ else []


class RelayProcess:
    """`relayd run`, or another command that runs a relay. As a context manager it starts, and has to end cleanly.

    Args:
        folder: where configuration, session file and outputs go.
        sessions: what the session file says; None for no file.
        overrides: settings that differ from `configuration`.
        arguments: the command and its options, without --config.
        ready: whether to wait until the relay has sessions, or only until it answers HTTP.
        home: where its package is.
    """

    def __init__(
        self,
        folder: Path,
        sessions: list[SessionKeys] | None,
        overrides: Sections | None = None,
        arguments: tuple[str, ...] = ("run",),
        ready: bool = True,
        home: Path = REPOSITORY,
    ) -> None:
        self.folder = folder
        self.home = home
        self.sessions_path = folder / "sessions.json"
        self.config_path = folder / "relayd.toml"
        self.allowed_errors = 0
        """How many lines at error level the log may hold."""
        self._secrets: set[int] = set()
        self._said: list[str] = []
        self._added = list(sessions or ())
        self._overrides = overrides
        self._arguments = arguments
        self._ready = ready
        self._process: Process | None = None
        if sessions is not None:
            self.write_sessions(sessions)

    def write_sessions(self, sessions: list[SessionKeys]) -> None:
        for session in sessions:
            self._secrets.update((session.token, *session.users))
        write_sessions(self.sessions_path, sessions)

    def add_sessions(self, *sessions: SessionKeys) -> None:
        """Puts more sessions into the file, and waits until the relay has them."""
        self._added += sessions
        self.write_sessions(self._added)
        eventually(lambda: self.metrics()["relayd_sessions",] == len(self._added), "the sessions are there")

    # Start and end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        for _ in range(_STARTS):
            self._spawn()
            try:
                eventually(self._is_up, "the relay answers on its admin port")
            except _PortTakenError:
                # Somebody else took it between its choice and its use.
                continue
            except BaseException:
                self.kill()
                raise
            return self
        raise AssertionError(f"no free ports: {self.stderr}")

    def _spawn(self) -> None:
        self.settings = configuration(self._overrides)
        self.config_path.write_text(to_toml(self.settings), encoding="utf-8")
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            arguments = command(*self._arguments, *_options(self._arguments), "--config", str(self.config_path))
            self._process = self._popen(arguments, out, err)

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        if self.home != REPOSITORY:
            return subprocess.Popen(arguments, stdout=out, stderr=err, cwd=self.home, env=environment())
        return start(arguments, out, err, environment())

    def _is_up(self) -> bool:
        status = self.process.poll()
        if status == _PORT_TAKEN:
            raise _PortTakenError
        assert status is None, f"relayd ended with {status}: {self.stderr}"
        try:
            return self.get("/readyz" if self._ready else "/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            sys.stderr.write(self.stderr)
            self.kill()
            return
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(PATIENCE_SECONDS) == 0, self.stderr
            self.assert_outputs_fine()
        finally:
            self.kill()

    def stop(self) -> None:
        """Ends it before the test is over."""
        self.__exit__(None, None, None)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if "RELAYD_TEST_FAST_PATH" in os.environ:
                remove = command("fast-path", "remove", "--config", str(self.config_path))
                subprocess.run(remove, cwd=REPOSITORY, env=environment(), check=True, capture_output=True)

    def assert_outputs_fine(self) -> None:
        """Nothing went wrong that the test did not mean to, and no token was shown."""
        errors = self.log_lines(level="error")
        assert len(errors) <= self.allowed_errors, errors
        said = "\n".join((*self._said, self.stderr, self.stdout)).lower()
        for secret in self._secrets:
            if secret >= _SHORTEST_SECRET:
                shown = [form for form in forms_of(secret) if form in said]
                assert not shown, f"a token was shown in full: {shown}"

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def log_lines(self, **fields: object) -> list[dict[str, Any]]:
        """The lines of the log that have these fields. Every whole line has to be JSON."""
        self._until_written()
        lines = [json.loads(line) for line in self.stderr.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if fields.items() <= line.items()]

    def _until_written(self) -> None:
        """A thread of the relay writes its log: what was logged by now is there once no line waits."""
        ip, _, port = self.settings["admin"]["bind"].rpartition(":")
        connection = http.client.HTTPConnection(ip.strip("[]"), int(port), timeout=PATIENCE_SECONDS)

        def all_written() -> bool:
            connection.request("GET", "/metrics")
            return b"relayd_log_lines_waiting 0.0\n" in connection.getresponse().read()

        # Where it does not answer, the caller has to wait for its line.
        with contextlib.suppress(OSError, http.client.HTTPException):
            eventually(all_written, "the log is written")
        connection.close()

    # Peers --------------------------------------------------------------------------------------------------

    def address(self, port: str, ip: str = "127.0.0.1") -> Address:
        return ip, self.settings["relay"][f"{port}_port"]

    def host(self, session: SessionKeys, user: int | None = None, ip: str = "127.0.0.1") -> Host:
        return Host(self.address("server", ip), session.host if user is None else user, session.token)

    def player(self, session: SessionKeys, number: int = 0, ip: str = "127.0.0.1") -> Player:
        return Player(self.address("client", ip), session.players[number], session.token)

    # Admin server -------------------------------------------------------------------------------------------

    @property
    def socket_path(self) -> Path:
        """Where it is asked for all but metrics and health."""
        named = self.settings["admin"].get("socket")
        return self.folder / (named or f"{self.settings['state']['directory']}/admin.sock")

    def connection(self, path: str) -> http.client.HTTPConnection:
        """To where this path is served to all who may ask for it."""
        if path.startswith("/v1/"):
            return UnixConnection(self.socket_path)
        ip, _, port = self.settings["admin"]["bind"].rpartition(":")
        return http.client.HTTPConnection(ip.strip("[]"), int(port), timeout=PATIENCE_SECONDS)

    def request(self, method: str, path: str) -> tuple[int, str]:
        connection = self.connection(path)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        self._said.append(body)
        return answer.status, body

    def get(self, path: str) -> tuple[int, str]:
        return self.request("GET", path)

    def get_json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample, by name and label values in the order of the labels' names."""
        status, text = self.get("/metrics")
        assert status == 200, text
        parts = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {_sample(name): float(value) for name, _, value in parts}

    def counts(self) -> Counts:
        """The whole matrix of what became of datagrams."""
        metrics = self.metrics()
        found: Counts = {}
        for (name, *labels), value in metrics.items():
            if name == "relayd_datagrams_total":
                found[" ".join(labels)] = Count(int(value), int(metrics["relayd_bytes_total", *labels]))
            elif name == "relayd_refusals_told_total":
                found[f"{labels[0]} told {labels[1]}"] = Count(int(value), 0)
        return found

    def assert_counted(self, before: Counts, *expected: Counts) -> None:
        """Since ``before``, exactly these counters have moved, by exactly that much."""
        wanted: Counts = {}
        for part in expected:
            for key, count in part.items():
                sofar = wanted.get(key, Count(0, 0))
                wanted[key] = Count(sofar.datagrams + count.datagrams, sofar.bytes + count.bytes)
        assert self.counted_since(before, datagrams_in(wanted)) == wanted

    def counted_since(self, before: Counts, datagrams: int) -> Counts:
        """What moved, once so many datagrams were counted, whatever became of them."""

        def moved_enough() -> Counts | None:
            moved = difference(self.counts(), before)
            return moved if datagrams_in(moved) >= datagrams else None

        return eventually(moved_enough, f"{datagrams} datagrams are counted") or {}


@functools.cache
def _sample(name: str) -> tuple[str, ...]:
    """Its name and label values. The same few hundred come again and again, and take the parser milliseconds."""
    ((sample,),) = (family.samples for family in text_string_to_metric_families(f"{name} 0\n"))
    return sample.name, *(value for _, value in sorted(sample.labels.items()))


def difference(after: Counts, before: Counts) -> Counts:
    """The counters that moved."""
    return {
        key: Count(count.datagrams - before[key].datagrams, count.bytes - before[key].bytes)
        for key, count in after.items()
        if count != before[key]
    }


def datagrams_in(counts: Counts) -> int:
    return sum(count.datagrams for key, count in counts.items() if " told " not in key)
