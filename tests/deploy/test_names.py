"""Rules and dashboard only name metrics, labels and values that there are."""

import importlib.util
import re
from collections.abc import Iterator
from itertools import combinations
from types import ModuleType

import pytest
import yaml

from relayd.core.verdict import Verdict
from tests.deploy.dashboard import DASHBOARD, PANELS, annotations, queries
from tests.deploy.promql import label_names, label_values, metric_names
from tests.deploy.scaled import rules
from tests.integration.programs import REPOSITORY

OF_PROMETHEUS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "job", "instance"},
}
"""https://prometheus.io/docs: what Prometheus itself adds for targets and alerts."""

QUESTIONS = [
    "Is it healthy?",
    "Who is playing?",
    "What is dropped, and why?",
    "What does it cost?",
    "Is the session table fresh?",
]


def _page_of_metrics() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metrics_page", REPOSITORY / "docs" / "metrics_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _known() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Labels of each series that a relay has, and values of each label."""
    labels = {name: set(of_it) for name, of_it in OF_PROMETHEUS.items()}
    values: dict[str, set[str]] = {}
    for family in _page_of_metrics().families():
        for sample in family.samples:
            labels.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    return labels, values


LABELS, VALUES = _known()


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    yield from queries()
    yield from annotations()


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_names_are_those_of_metrics(where: str, expression: str) -> None:
    names = metric_names(expression)
    assert names
    assert names <= LABELS.keys()
    assert label_names(expression) <= set().union(*(LABELS[name] for name in names))
    for label, value in label_values(expression):
        assert value in VALUES.get(label, {value}), f'there is no {label}="{value}"'


def test_names_that_do_not_exist_would_be_found() -> None:
    expression = 'sum by (job, nowhere) (rate(relayd_no_such_total{verdict=~"forwarded|lost"}[5m])) / on (job) up > 1'
    assert metric_names(expression) == {"relayd_no_such_total", "up"}
    assert label_names(expression) == {"job", "nowhere", "verdict"}
    assert label_values(expression) == {("verdict", "forwarded"), ("verdict", "lost")}
    assert VALUES["verdict"] == {verdict.label for verdict in Verdict}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "action", "docs"}
    assert (REPOSITORY / rule["annotations"]["docs"]).is_file()
    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= {"instance", *label_names(str(rule["expr"]))}


def test_the_dashboard_answers_the_questions() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == QUESTIONS
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} == {
                "${datasource}"
            }
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


def test_panels_do_not_overlap() -> None:
    def cells(panel: dict[str, dict[str, int]]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}

    for one, other in combinations(PANELS, 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])


def test_grafana_finds_what_it_is_given() -> None:
    folder = REPOSITORY / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert [(one["type"], one["isDefault"]) for one in sources] == [("prometheus", True)]
    (provider,) = yaml.safe_load((folder / "dashboards" / "relayd.yml").read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
