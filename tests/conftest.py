"""What all tests share."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be left out, a skipped test is a failed run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("FORBID_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, which FORBID_SKIPS does not allow", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
