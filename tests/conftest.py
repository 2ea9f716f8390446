"""What all tests share: how they are spread over processes, which examples are tried, and what a skipped one means."""

import functools
import gc
import os
import sys
import warnings
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, settings

_CHEAP_TO_REPEAT = {"forwarder"}
"""Fixtures of a module that are only a value: they hold nothing that tests would have to share."""
_LONGEST_FIRST = ("tests/deploy/", "tests/integration/test_units.py", "tests/integration/", "tests/thread/", "tests/")
"""What takes longest begins first, or everything would wait for it in the end."""

# Every example takes as long as the machine needs; what fails is printed such that it can be tried again.
settings.register_profile("random", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time.
settings.register_profile("quick", settings.get_profile("random"), derandomize=True)
settings.load_profile("random")


@pytest.fixture(scope="session", autouse=True)
def _loggers_follow_the_configuration() -> Iterator[None]:
    """A command that runs in this process configures logging for good: each logger keeps what it was first used with.

    The next test's `capture_logs`, or its log that cannot be written, would then hear nothing.
    """
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", uncached)
        yield


@pytest.fixture(scope="session", autouse=True)
def _authorities_are_read_once() -> Iterator[None]:
    """httpx reads all that the host trusts for each client it makes, also for one that speaks no TLS: 50 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture go to the same process, all others wherever there is room."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (_is_unit(item) or _shares_a_fixture(item)):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=_place)


def _is_unit(item: pytest.Item) -> bool:
    """They take no time: to hand them out one by one would take longer."""
    return item.nodeid.startswith(("tests/unit/", "tests/bench/"))


def _shares_a_fixture(item: pytest.Item) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return any(
        fixture.scope not in ("function", "session") and name not in _CHEAP_TO_REPEAT
        for name, (*_, fixture) in definitions.items()
        if not name.startswith("_")
    )


def _place(item: pytest.Item) -> int:
    return next((n for n, start in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(start)), len(_LONGEST_FIRST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a test left is given back at once, or some later one would be blamed for it."""
    failed_before = item.session.testsfailed
    result = yield
    # A command that ran in this process had logs go to what was its standard error then.
    structlog.reset_defaults()
    if item.session.testsfailed > failed_before:
        sys.last_value = sys.last_traceback = None
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be left out, a skipped test is a failed run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("FORBID_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, which FORBID_SKIPS does not allow", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
