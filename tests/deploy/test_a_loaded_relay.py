"""What a real Prometheus makes of a relay with many sessions and of what is said about it in deploy/."""

import subprocess
import time

from relayd.settings import AdminSettings
from tests.deploy.conftest import SESSIONS, Loaded, Watched
from tests.deploy.dashboard import annotations, as_asked, queries
from tests.deploy.prometheus import needs_prometheus
from tests.deploy.scaled import FOLDER
from tests.integration.peers import Peer
from tests.integration.programs import REPOSITORY
from tests.integration.waiting import eventually

pytestmark = needs_prometheus

SCRAPES = 20
BUSY = {
    "RelaydLoopSlow",
    "RelaydAddedLatency",
    "RelaydNothingForwarded",
    "RelaydReceiveQueueOverflows",
    "RelaydDown",
}
"""What a machine that has something else to do gives reason to; a minute of the rules is a second here."""


def test_a_scrape_shows_no_more_sessions_than_it_may(loaded: Loaded) -> None:
    """How long it takes, `python -m bench scale` prints."""
    series = [key for key in loaded.relay.metrics() if key[0] == "relayd_session_datagrams_total"]
    assert len({session for _, _, session in series}) == AdminSettings().max_session_series + 1 < SESSIONS


def test_a_relay_of_many_sessions_is_scraped_again_and_again(watched: Watched, loaded: Loaded) -> None:
    prometheus, selector = watched.prometheus, watched.selector("loaded")
    eventually(lambda: prometheus.firing(selector) <= BUSY, "what its start set off is over")
    began, heard_before = time.monotonic(), loaded.load.heard_back

    def so_far() -> str:
        return f"{time.monotonic() - began:.0f}s"

    def enough() -> bool:
        up = prometheus.query(f"sum_over_time(up{{{selector}}}[{so_far()}])") if time.monotonic() > began + 1 else []
        return bool(up) and up[0][1] >= SCRAPES

    eventually(enough, "the relay is scraped again and again")
    prometheus.until_found(f"relayd_active_sessions{{{selector}}} == {SESSIONS}")
    assert loaded.load.heard_back > heard_before
    # With 60 times the haste, nothing alarms anybody either.
    assert prometheus.firing(selector, so_far()) <= BUSY


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
