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
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    pytest_alone = ["-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(
        [sys.executable, *pytest_alone, "-n", processes, "-c", os.devnull, f"--rootdir={tmp_path}", str(tmp_path)],
        cwd=REPOSITORY,
        env={**variables, "FORBID_SKIPS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("FORBID_SKIPS does not allow" in done.stdout) == (status != pytest.ExitCode.OK)
