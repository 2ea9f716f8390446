"""What is measured needs nothing that only the tests need."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NEVER_IMPORTED = """
import importlib, sys
for name in sys.argv[2:]:
    sys.modules[name] = None
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("module", ["bench.__main__", "fuzz.__main__"])
def test_only_its_own_extra_is_needed(module: str) -> None:
    """A module that is None in sys.modules is not available: documentation of sys."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    only_for_tests = [name for name in ("hypothesis", "pytest", "schemathesis", "yaml") if name in str(extras["dev"])]
    command = [sys.executable, "-c", _NEVER_IMPORTED, module, *only_for_tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
