"""Runs `relayd` commands that end by themselves: in this process where that shows the same, for it is far quicker."""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

from relayd.cli import main
from tests.integration.config import Sections, configuration, to_toml
from tests.integration.programs import REPOSITORY, Done, command, run
from tests.integration.relay_process import environment
from tests.integration.waiting import PATIENCE_SECONDS

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13

_WITHOUT = """
import ctypes, os, sys
PR_CAPBSET_DROP = 24
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, int(sys.argv[1]), 0, 0, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Refused to somebody who is not root, and who does not have the capability anyway."""

_SERVERS = {"run", "dev"}
"""Commands that would go on, and set up logs and signals of their process."""


def relayd(
    *arguments: str,
    variables: dict[str, str] | None = None,
    without: int | None = None,
    home: Path = REPOSITORY,
) -> Done:
    """Runs it to its end; ``without`` a capability; `home` is where its package is."""
    wanted = {**environment(), **(variables or {})}
    if without is None and home == REPOSITORY and arguments[0] not in _SERVERS and _may_run_here():
        return run_here(arguments, wanted)
    if without is None and home == REPOSITORY:
        return run(command(*arguments), wanted)
    prefix = [] if without is None else [sys.executable, "-c", _WITHOUT, str(without)]
    return subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=home,
        env=wanted,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def _may_run_here() -> bool:
    """Not in a thread, which has no signals and may be in another network; not beside a loop that runs."""
    if threading.current_thread() is not threading.main_thread():
        return False
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return False
    return True


def run_here(arguments: tuple[str, ...], variables: dict[str, str], folder: Path = REPOSITORY) -> Done:
    """What the program does, done by this process. Whatever it raises is raised."""
    # Files with an encoding, as they are to the program; held until they are read, for they close what they write to.
    written, complained = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        contextlib.redirect_stdout(written),
        contextlib.redirect_stderr(complained),
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, variables, clear=True),
    ):
        status = main(arguments)
    return Done(command(*arguments), status, *(_text(file) for file in (written, complained)))


def _text(file: io.TextIOWrapper) -> str:
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode("utf-8")


def write_config(folder: Path, overrides: Sections | None = None) -> Path:
    """A configuration file on free ports; the session file beside it is not there yet."""
    path = folder / "relayd.toml"
    path.write_text(to_toml(configuration(overrides)), encoding="utf-8")
    return path


def assert_one_clear_line(done: Done, status: int, *says: str) -> None:
    """One line on standard error that holds all of this, and no traceback."""
    assert done.returncode == status, done
    (line,) = done.stderr.splitlines()
    for part in says:
        assert part in line
    assert "Traceback" not in done.stdout
