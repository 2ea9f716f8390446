"""The dashboard of deploy/, read."""

import json
from typing import Any

from tests.integration.programs import REPOSITORY

DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "grafana" / "relayd.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def queries() -> list[tuple[str, str]]:
    """Title of the panel and expression of each of its queries."""
    return [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())]


def annotations() -> list[tuple[str, str]]:
    """Title and expression of each annotation."""
    return [(one["name"], one["expr"]) for one in DASHBOARD["annotations"]["list"]]


def as_asked(expression: str) -> str:
    """The expression as Grafana asks it for all relays, over a window that fits to the tests' haste."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "5s")
