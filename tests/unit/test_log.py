"""Lines of the log: how they are written, and what is left out of them."""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from relayd import log
from relayd.event_loop.output import Output
from tests.integration.waiting import PATIENCE_SECONDS


class Log:
    """Standard error in a file."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, encoding: str = "utf-8") -> None:
        self.path = path
        self.file = path.open("w", encoding=encoding)
        self._patch = patch

    def configure(self, form: str = "auto") -> None:
        # pytest has a standard error of its own between a fixture and its test.
        self._patch.setattr(sys, "stderr", self.file)
        log.configure("info", form)

    def text(self) -> str:
        assert isinstance(sys.stderr, Output)
        assert sys.stderr.drain(PATIENCE_SECONDS)
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def _library_logs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    made = Log(tmp_path / "log", monkeypatch)
    yield made
    made.file.close()


def test_json_says_what_happened_first_and_every_character_as_it_is(written: Log) -> None:
    written.configure()
    structlog.get_logger().info("game ended", user=log.short_token(123456))
    line = written.text()
    assert line.startswith('{"event": "game ended", "level": "info", "timestamp": "')
    assert line.endswith('"user": "…456"}\n')


def test_where_it_is_not_utf_8_json_stays_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Log(tmp_path / "log", monkeypatch, encoding="ascii")
    written.configure()
    structlog.get_logger().info("joined", name="Zoë…")
    assert written.lines()[0]["name"] == "Zoë…"
    written.file.close()


@pytest.mark.parametrize(
    ("form", "terminal", "json_lines"),
    [("auto", False, True), ("auto", True, False), ("json", True, True), ("console", False, False)],
)
def test_the_form_is_that_of_the_settings_or_suits_who_reads(
    written: Log, monkeypatch: pytest.MonkeyPatch, form: str, terminal: bool, json_lines: bool
) -> None:
    monkeypatch.setattr(Output, "isatty", lambda _: terminal)
    written.configure(form)
    structlog.get_logger().info("hello", user="…001")
    text = written.text()
    assert text.startswith("{") == json_lines
    assert "hello" in text
    assert ("\x1b[" in text) == (terminal and not json_lines), "colours are for terminals"


def test_what_libraries_log_goes_the_same_way(written: Log) -> None:
    written.configure()
    assert logging.lastResort is not None
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        record = logging.makeLogRecord({"name": "asyncio", "levelno": level, "msg": "%s hung", "args": ("it",)})
        if level >= logging.lastResort.level:
            logging.lastResort.handle(record)
    kept = [(line["event"], line["level"], line["logger"]) for line in written.lines()]
    assert kept == [("it hung", "warning", "asyncio"), ("it hung", "error", "asyncio")]


def test_what_python_prints_itself_goes_the_same_way(written: Log) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    written.configure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
        Broken()
        gc.collect()
    assert "ZeroDivisionError" in written.text()


def fail() -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        structlog.get_logger().exception("a defect")


def test_the_same_traceback_comes_once_a_minute_with_how_often_it_came(
    written: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    written.configure()
    for _ in range(100):
        fail()
    now += 61
    for _ in range(2):
        fail()
    first, second = written.lines()
    assert "ZeroDivisionError" in first["exception"]
    assert "repeats" not in first
    assert second["repeats"] == 99


def test_other_tracebacks_are_other_lines(written: Log) -> None:
    written.configure()
    fail()
    try:
        int("twelve")
    except ValueError as error:
        structlog.get_logger().error("a defect", exc_info=error)
    for number in range(200):
        structlog.get_logger().error(f"defect {number}", exc_info=ValueError(number))
    assert len(written.lines()) == 202
    fail()
    assert len(written.lines()) == 203, "only so many are remembered"


def test_how_many_are_lost_is_known_and_said(written: Log) -> None:
    written.configure()

    def full(fd: int, data: bytes) -> int:
        raise OSError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(7):
            structlog.get_logger().info("hello")
        assert written.lines() == []
    assert log.lines_lost() == 7
    structlog.get_logger().info("there is room again")
    lost, told = written.lines()
    assert told["event"] == "there is room again"
    assert (lost["lines"], lost["level"]) == (7, "warning")
    assert lost["event"].startswith("lines of this log were lost")


def test_configured_twice_there_is_one_output(written: Log) -> None:
    written.configure()
    first = sys.stderr
    log.configure("error")
    assert sys.stderr is first


CRASH = """
import asyncio, structlog
from relayd import log
from relayd.event_loop.run import run_loop
log.configure("info")

async def main():
    structlog.get_logger().info("about to fail")
    raise ZeroDivisionError

run_loop(main())
"""


def test_lines_before_a_crash_are_written_and_its_traceback_after_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    first, second, *_, last = done.stderr.splitlines()
    assert json.loads(first)["event"] == "about to fail"
    assert (second, last) == ("Traceback (most recent call last):", "ZeroDivisionError")


UNREAD = """
import asyncio, structlog
from relayd import log
from relayd.event_loop.run import run_loop
log.configure("info")

async def main():
    for number in range(20000):
        structlog.get_logger().info("a line", number=number)
    print(log.lines_lost(), flush=True)

run_loop(main())
"""


def test_a_pipe_that_nobody_reads_holds_up_neither_the_loop_nor_the_end_of_the_process() -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNREAD],
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as reader:
        kept = [json.loads(line)["number"] for line in reader.read().splitlines(keepends=True) if line.endswith("\n")]
    assert done.returncode == 0
    assert int(done.stdout) > 9000
    assert kept == list(range(len(kept)))


def test_an_event_loop_says_what_failed_in_it_there(written: Log) -> None:
    written.configure()

    async def work() -> None:
        asyncio.get_running_loop().call_soon(fail_in_a_callback)
        await asyncio.sleep(0)

    root = logging.getLogger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])  # pytest's own
        asyncio.run(work())
    (line,) = written.lines()
    assert line["logger"] == "asyncio"
    assert "ZeroDivisionError" in line["exception"]


def fail_in_a_callback() -> None:
    _ = 1 // 0
