"""Looks at a file that nobody waits for any more."""

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from relayd.event_loop.run import run_loop
from relayd.files import Stamp
from relayd.session_source import looks
from tests.integration.waiting import PATIENCE_SECONDS


def test_a_problem_that_nobody_waits_for_any_more_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fail(path: Path, _: Stamp | None) -> tuple[Stamp, bytes | None]:
        begun.set()
        go_on.wait(PATIENCE_SECONDS)
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(looks, "read_if_changed", fail)
    said: list[dict[str, Any]] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        source = asyncio.create_task(looks.Looks(tmp_path, lambda: None).look(None))
        assert await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        source.cancel()
        await asyncio.wait([source])
        go_on.set()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(rest) == 1
        await asyncio.wait(rest)
        rest.clear()
        gc.collect()

    run_loop(work())
    assert said == []
