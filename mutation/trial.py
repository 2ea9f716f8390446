"""One run of tests in a process of its own, forked from one that has imported what they need beside relayd.

Started as ``python -m mutation.trial [MODULE …]`` in a copy of the tree. Reads a request a line from standard input,
and answers each with a line on standard output, both JSON.
"""

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from coverage import Coverage

_OPTIONS = (
    # What the tree asks for is for people who look at it.
    "--override-ini=addopts=",
    "--no-header",
    "--quiet",
    "--tb=short",
    "-pno:cacheprovider",
    # Imported before, by intention.
    "-Wignore::pytest.PytestAssertRewriteWarning",
)
_COVERAGE_FILE = "build/touched"
_LOG = "build/trial.log"
_LOOK_SECONDS = 1.0


class Outcome(StrEnum):
    """What became of a mutant, or of the tree without one."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMEOUT = "timeout"
    """It used so much time that it cannot be right; as good as killed."""
    UNTOUCHED = "untouched"
    """No test gets there; as good as survived."""
    STILLBORN = "stillborn"
    """It does not compile, or the kernel does not load it: no mutant at all."""


@dataclass(frozen=True)
class Request:
    """Which tests to run, and for how long at most."""

    files: list[str]
    tests: list[str] | None = None
    """Those of the files' tests that are to be run, in this order; None: all of them."""
    cpu_seconds: float = 3600
    wall_seconds: float = 3600
    memory_bytes: int = 0
    """Address space of the process; 0: any."""
    every: bool = False
    """Go on after a failure."""
    touched: bool = False
    """Note which lines each test runs."""
    left_out: list[str] = field(default_factory=list)
    """Tests whose name contains one of these are not run."""


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    outcome: Outcome
    by: str
    """The first test that failed."""
    seconds: float
    tests: dict[str, float] = field(default_factory=dict)
    """Seconds of each test that passed."""
    skipped: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """What was imported and is none of the tree."""


class _Observer:
    """Chooses the tests, and notes what becomes of them."""

    def __init__(self, request: Request, coverage: Coverage | None) -> None:
        self.failed: list[str] = []
        self.tests: dict[str, float] = {}
        self.skipped: list[str] = []
        self._request = request
        self._coverage = coverage

    def pytest_sessionstart(self) -> None:
        """A failing example is as good as the smallest one."""
        profile = hypothesis.settings(
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], derandomize=True, deadline=None
        )
        hypothesis.settings.register_profile("mutation", profile)
        hypothesis.settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not any(word in item.nodeid for word in self._request.left_out)]
        if self._request.tests is not None:
            rank = {test: number for number, test in enumerate(self._request.tests)}
            items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._coverage is not None:
            self._coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self) -> None:
        if self._coverage is not None:
            self._coverage.switch_context("")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.skipped:
            self.skipped.append(report.nodeid)
        else:
            self.tests[report.nodeid] = self.tests.get(report.nodeid, 0) + report.duration


def _run(request: Request) -> dict[str, Any]:
    coverage = Coverage(data_file=_COVERAGE_FILE, source=["relayd"], config_file=False) if request.touched else None
    observer = _Observer(request, coverage)
    if coverage is not None:
        coverage.start()
    started = time.monotonic()
    options = _OPTIONS if request.every else (*_OPTIONS, "--exitfirst")
    status = pytest.main([*options, *request.files], plugins=[observer])
    if coverage is not None:
        coverage.stop()
        coverage.save()
    fine = status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    answer = Answer(
        Outcome.SURVIVED if fine and not observer.failed else Outcome.KILLED,
        next(iter(observer.failed), "" if fine else f"pytest ended with {int(status)}"),
        time.monotonic() - started,
        observer.tests,
        observer.skipped,
        _imported() if request.touched else [],
    )
    return asdict(answer)


def _imported() -> list[str]:
    here = Path.cwd()
    return [
        name
        for name, module in list(sys.modules.items())
        if (path := getattr(module, "__file__", None)) and not Path(path).is_relative_to(here) and name != "__main__"
    ]


def _in_child(request: Request, result: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu_seconds = int(request.cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    if request.memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))
    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with os.fdopen(result, "w") as pipe:
        pipe.write(json.dumps(_run(request)) + "\n")


def _try(request: Request) -> Answer:
    """Runs the tests in a child, and clears away all that it leaves behind."""
    started = time.monotonic()
    reading, writing = os.pipe()
    # Short, for the names of sockets, and taken away even where the child had no time to.
    temporary = tempfile.mkdtemp(prefix="mutant-")
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        try:
            _in_child(request, writing)
        except BaseException:  # noqa: BLE001 - nothing of the parent's is to run here
            os._exit(1)
        os._exit(0)
    os.close(writing)
    found = _read_line(reading, request.wall_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(temporary, ignore_errors=True)
    if found:
        answer = json.loads(found)
        return Answer(**{**answer, "outcome": Outcome(answer["outcome"])})
    seconds = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, -signal.SIGXCPU):
        return Answer(Outcome.TIMEOUT, f"ended after {seconds:.0f} s", seconds)
    return Answer(Outcome.KILLED, f"the process ended with {os.waitstatus_to_exitcode(status)}", seconds)


def _read_line(reading: int, seconds: float) -> bytes:
    """A line from a pipe, or b"" if its writer ends, or the time does, before there is one.

    Only that time counts in which this process runs: one that was stopped for a while gives nobody up.
    """
    found = b""
    try:
        while not found.endswith(b"\n"):
            if seconds <= 0:
                return b""
            looked = time.monotonic()
            ready = select.select([reading], [], [], min(seconds, _LOOK_SECONDS))[0]
            seconds -= min(time.monotonic() - looked, _LOOK_SECONDS)
            if ready:
                part = os.read(reading, 1 << 16)
                if not part:
                    return b""
                found += part
    finally:
        os.close(reading)
    return found


def main() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path.cwd()))
    Path("build").mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sys.argv[1:]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    for line in sys.stdin:
        answer = _try(Request(**json.loads(line)))
        print(json.dumps(asdict(answer)), file=answers, flush=True)


if __name__ == "__main__":
    main()
