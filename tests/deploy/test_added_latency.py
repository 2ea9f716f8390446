"""The dashboard's panel of added latency has something to show when all traffic is in the kernel."""

import json
import subprocess
from pathlib import Path

from tests.deploy.dashboard import PANELS, as_asked
from tests.deploy.prometheus import needs_prometheus

pytestmark = needs_prometheus

BUCKETS = "relayd_added_latency_seconds_bucket"
COUNTS = {
    # The program takes no more than 250 ns for any; to the sockets came nothing more after what was there once.
    "fast_path": {"2.5e-07": "0+10x30", "5e-07": "0+10x30", "+Inf": "0+10x30"},
    "sockets": {"2.5e-07": "7+0x30", "5e-07": "7+0x30", "+Inf": "7+0x30"},
}


def test_with_all_traffic_in_the_kernel_it_shows_how_long_that_takes(tmp_path: Path) -> None:
    (panel,) = (panel for panel in PANELS if panel["title"] == "Added latency")
    assert "fast_path" in panel["description"]
    median, _ = (as_asked(target["expr"]) for target in panel["targets"])
    series = [
        {"series": f'{BUCKETS}{{job="relayd", instance="a", path="{path}", le="{le}"}}', "values": values}
        for path, buckets in COUNTS.items()
        for le, values in buckets.items()
    ]
    shown = {"labels": '{instance="a", path="fast_path"}', "value": 1.25e-07}
    asked = {"expr": f"({median}) >= 0", "eval_time": "20s", "exp_samples": [shown]}
    cases = [{"interval": "1s", "input_series": series, "promql_expr_test": [asked]}]
    test = {"rule_files": [], "evaluation_interval": "1s", "tests": cases}
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(test), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
