"""Runs `relayd` commands that end by themselves."""

import subprocess
import sys
from pathlib import Path

from tests.integration.config import Sections, configuration, to_toml
from tests.integration.relay_process import REPOSITORY, command, environment
from tests.integration.waiting import PATIENCE_SECONDS

Done = subprocess.CompletedProcess[str]

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13

_WITHOUT = """
import ctypes, os, sys
PR_CAPBSET_DROP = 24
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, int(sys.argv[1]), 0, 0, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Refused to somebody who is not root, and who does not have the capability anyway."""


def relayd(
    *arguments: str,
    variables: dict[str, str] | None = None,
    without: int | None = None,
    home: Path = REPOSITORY,
) -> Done:
    """Runs it to its end; ``without`` a capability; `home` is where its package is."""
    prefix = [] if without is None else [sys.executable, "-c", _WITHOUT, str(without)]
    return subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=home,
        env={**environment(), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


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
