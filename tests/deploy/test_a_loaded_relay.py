"""What a real Prometheus makes of a relay with many sessions and of what is said about it in deploy/."""

import subprocess
import time

import pytest

from tests.deploy.conftest import SESSIONS, Loaded, Watched
from tests.deploy.dashboard import annotations, as_asked, queries
from tests.deploy.prometheus import needs_prometheus
from tests.deploy.scaled import FOLDER
from tests.integration.peers import Peer
from tests.integration.relay_process import REPOSITORY
from tests.integration.waiting import eventually

pytestmark = needs_prometheus

SCRAPES = 20
SCRAPE_SECONDS_ALLOWED = 0.2
BUSY = {"RelaydLoopSlow", "RelaydAddedLatency", "RelaydNothingForwarded"}
"""What a machine that has something else to do gives reason to; a minute of the rules is a second here."""


def test_a_scrape_of_many_sessions_takes_little_time(
    watched: Watched, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """The only time that is asserted anywhere in these tests: it is what was promised."""
    prometheus, selector = watched.prometheus, watched.selector("loaded")
    eventually(lambda: prometheus.firing(selector) <= BUSY, "what its start set off is over")
    began, heard_before = time.monotonic(), loaded.load.heard_back

    def since(series: str) -> str:
        return f"{series}{{{selector}}}[{time.monotonic() - began:.0f}s]"

    def enough() -> bool:
        return time.monotonic() - began > 1 and prometheus.value(f"count_over_time({since('up')})") >= SCRAPES

    eventually(enough, "the relay is scraped again and again")
    assert prometheus.value(f"min_over_time({since('up')})") == 1
    seconds = [
        prometheus.value(f"quantile_over_time({quantile}, {since('scrape_duration_seconds')})")
        for quantile in (0, 0.5, 1)
    ]
    samples = prometheus.value(f"scrape_samples_scraped{{{selector}}}")
    rate = prometheus.value(f'sum(rate(relayd_datagrams_total{{verdict="forwarded",{selector}}}[5s]))')
    with capsys.disabled():
        # Shown whether or not it is good enough.
        print(  # noqa: T201
            f"\n{SESSIONS} sessions, {rate:.0f} datagrams/s, {samples:.0f} samples: a scrape takes"
            f" {seconds[0] * 1000:.0f} … {seconds[1] * 1000:.0f} … {seconds[2] * 1000:.0f} ms (least, median, most)"
        )
    assert seconds[1] < SCRAPE_SECONDS_ALLOWED
    assert prometheus.value(f"relayd_active_sessions{{{selector}}}") == SESSIONS
    assert loaded.load.heard_back > heard_before
    # With 60 times the haste, nothing alarms anybody either.
    assert prometheus.firing(selector, f"{time.monotonic() - began:.0f}s") <= BUSY


def test_every_query_of_the_dashboard_has_an_answer(watched: Watched, loaded: Loaded) -> None:
    with Peer(loaded.relay.address("client"), 1, 1) as stranger:
        for title, expression in queries():
            wanted = as_asked(expression)

            def answered(wanted: str = wanted) -> bool:
                # Refused, so that there is something to show of drops.
                stranger.send_ping()
                return bool(watched.prometheus.query(wanted))

            eventually(answered, f"{title}: {wanted}")
    for _, expression in annotations():
        watched.prometheus.query(as_asked(expression))


def test_promtool_finds_nothing_wrong_with_the_metrics(loaded: Loaded) -> None:
    metrics = loaded.relay.get("/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_finds_nothing_wrong_with_configuration_and_rules() -> None:
    for what, name in (("config", "prometheus.yml"), ("rules", "relayd.rules.yml")):
        done = subprocess.run(
            ["promtool", "check", what, "--lint=all", "--lint-fatal", str(FOLDER / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_wait_as_long_as_they_should() -> None:
    tests = REPOSITORY / "tests" / "deploy" / "relayd.test.yml"
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
