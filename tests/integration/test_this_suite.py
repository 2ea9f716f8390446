"""How the tests are run: in several processes, with nothing skipped where that is forbidden."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

SKIPPED = "import pytest\n@pytest.mark.skip(reason='for once')\ndef test_a(): pass\n"
LEFT_OUT = "import pytest\npytest.skip('all of it', allow_module_level=True)\n"
PASSES = "def test_b(): pass\n"

SHARES = """
import os, pathlib, pytest
@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    pathlib.Path(__file__).with_name("made").open("a").write("once\\n")
@pytest.mark.parametrize("number", range(10))
def test_c(shared, number): pass
"""


def run(folder: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """pytest with nothing but what all tests of this project share."""
    alone = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={folder}", "-p", "tests.conftest"]
    without = ["-p", "no:cacheprovider", "-p", "xdist"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "FORBID_"))}
    inherited["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [*alone, *without, *options, str(folder)],
        cwd=REPOSITORY,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("processes", "text", "status"),
    [
        ("0", SKIPPED, pytest.ExitCode.TESTS_FAILED),
        ("1", SKIPPED, pytest.ExitCode.TESTS_FAILED),
        ("1", LEFT_OUT, pytest.ExitCode.TESTS_FAILED),
        ("1", PASSES, pytest.ExitCode.OK),
    ],
)
def test_a_skipped_test_fails_where_that_is_forbidden(
    tmp_path: Path, processes: str, text: str, status: pytest.ExitCode
) -> None:
    (tmp_path / "test_one.py").write_text(text, encoding="utf-8")
    (tmp_path / "test_two.py").write_text(PASSES, encoding="utf-8")
    done = run(tmp_path, "-n", processes, FORBID_SKIPS="1")
    assert done.returncode == status, done.stdout + done.stderr
    assert ("FORBID_SKIPS does not allow" in done.stdout) == (status != pytest.ExitCode.OK)


def test_what_tests_share_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "test_shares.py").write_text(SHARES, encoding="utf-8")
    done = run(tmp_path, "-n", "2", "--dist=loadgroup")
    assert "10 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "made").read_text(encoding="utf-8") == "once\n"
