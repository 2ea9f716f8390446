"""Another version of relayd: a copy in which something is declared otherwise, with all that is made from that."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_NOT_COPIED = shutil.ignore_patterns("*.so", "__pycache__")
_LAST_LINES = """
    @property
    def label(self) -> str:
"""
_ONE_MORE = '''
    TRIED = 22
    """Only a test has it."""
'''


def with_one_more_verdict(home: Path) -> Path:
    """A copy of relayd whose kernel program and state file have a verdict more. Needs clang; its forwarder is Python's.

    Returns:
        Where it runs from.
    """
    shutil.copytree(REPOSITORY / "relayd", home / "relayd", ignore=_NOT_COPIED)
    shutil.copy(REPOSITORY / "Makefile", home)
    verdicts = home / "relayd/core/verdict.py"
    text = verdicts.read_text(encoding="utf-8")
    assert text.count(_LAST_LINES) == 1
    verdicts.write_text(text.replace(_LAST_LINES, _ONE_MORE + _LAST_LINES), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "relayd.forwarding.generated"], cwd=home, check=True)
    subprocess.run(["make", "fast-path"], cwd=home, check=True, capture_output=True)
    return home
