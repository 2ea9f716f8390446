"""The configuration and rules of deploy/, such that a minute takes a second.

Every window of time is divided by 60, and every alert waits half a second instead of its `for`: otherwise the causes
would have to last for up to two hours. Thresholds are those that operators get, but for the one that is itself a time.
What `for` and windows really are is tested with a simulated clock, by relayd.test.yml.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.integration.programs import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "prometheus"
TIMES_FASTER = 60
SCRAPE_SECONDS = 0.25

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PATIENCE = "500ms"


def rules() -> list[dict[str, Any]]:
    """The alerts of deploy/."""
    loaded = yaml.safe_load((FOLDER / "relayd.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def write_scaled(folder: Path, instances: list[str]) -> Path:
    """Writes configuration, rules and targets into a folder. Returns the path of the configuration."""
    interval = f"{SCRAPE_SECONDS * 1000:.0f}ms"
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    group = {"name": "relayd", "rules": [_scaled(rule) for rule in rules()]}
    (folder / "relayd.rules.yml").write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    (folder / "relays").mkdir()
    (folder / "relays" / "test.yml").write_text(yaml.safe_dump([{"targets": instances}]), encoding="utf-8")
    return path


def _scaled(rule: dict[str, Any]) -> dict[str, Any]:
    expression = re.sub(r"\[(\d+)([smhd])\]", _scaled_window, rule["expr"])
    expression = re.sub(r"(relayd_source_age_seconds > )(\d+)", _scaled_age, expression)
    return {**rule, "expr": expression, **({"for": _PATIENCE} if "for" in rule else {})}


def _scaled_window(window: re.Match[str]) -> str:
    return f"[{int(window[1]) * _SECONDS[window[2]] * 1000 // TIMES_FASTER}ms]"


def _scaled_age(threshold: re.Match[str]) -> str:
    return f"{threshold[1]}{int(threshold[2]) / TIMES_FASTER}"
