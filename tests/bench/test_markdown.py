"""The tables say who is best, by how much, and who is missing."""

import pytest

from bench.markdown import page
from bench.numbers import shown, shown_series
from bench.ranking import best_peer, in_order, ratio
from bench.results import LeftOut
from tests.bench.fakes import results, series

COST = results(
    series("cost", "nginx", "CPU", [6, 6, 6], point="50k/s"),
    series("cost", "coturn", "CPU", [8, 9, 7], point="50k/s"),
    series("cost", "relayd", "CPU", [3, 3.5, 2.5], point="50k/s"),
    series("cost", "relayd", "CPU", [4, 4, 4], point="100k/s"),
    series("cost", "direct", "CPU", [1, 1, 1], point="50k/s"),
    series("cost", "relayd", "memory", [100], better="none", unit="MB"),
    left_out=[LeftOut(scenario="cost", subject="asyncio", reason="it does not start")],
    notes=["The time was over."],
)


def test_a_metric_with_several_points_has_a_table_of_its_own_with_subjects_as_rows() -> None:
    assert page(COST).split("## cost\n")[1] == (
        "\n"
        "|  | memory<br>MB |\n"
        "|---|--:|\n"
        "| relayd | 100 |\n"
        "\n"
        "|  | CPU, 50k/s<br>µs, lower is better | CPU, 100k/s<br>µs, lower is better |\n"
        "|---|--:|--:|\n"
        "| relayd | 3.00 (2.50–3.50) | 4.00 (4.00–4.00) |\n"
        "| nginx | **6.00 (6.00–6.00)** | – |\n"
        "| coturn | 8.00 (7.00–9.00) | – |\n"
        "| direct | 1.00 (1.00–1.00) | – |\n"
        "| *relayd : best peer* | 0.500 × |  |\n"
        "\n"
        "Left out: asyncio: it does not start.\n"
    )


def test_says_what_it_was_measured_on_and_how() -> None:
    text = page(COST)
    assert "2001-02-03 on Processor X, 2 cores, Linux 6.1, CPython 3.11.2; relayd 0.1.0 (abc)" in text
    assert "python -m bench all --out somewhere" in text
    assert "The time was over." in text


def test_a_scenario_that_is_left_out_is_there_with_the_reason() -> None:
    text = page(results(left_out=[LeftOut(scenario="flood", subject="", reason="needs root")]))
    assert "## flood\n\nLeft out: the scenario: needs root.\n" in text


def test_best_is_lowest_or_highest_and_never_relayd_itself_nor_the_direct_path() -> None:
    subjects = {"relayd": [1, 9], "nginx": [3, 3], "coturn": [5, 5], "direct": [0, 99]}
    low = {name: series("a", name, "m", values, "lower") for name, values in subjects.items()}
    high = {name: series("a", name, "m", values, "higher") for name, values in subjects.items()}
    neither = {name: series("a", name, "m", values, "none") for name, values in subjects.items()}
    assert [best_peer(low), best_peer(high), best_peer(neither)] == ["nginx", "coturn", None]
    assert ratio(low, "relayd") == pytest.approx(5 / 3)
    assert ratio(neither, "relayd") is None
    assert ratio(low, "relayd (plain)") is None


def test_there_is_no_ratio_to_nothing() -> None:
    found = {"relayd": series("a", "relayd", "m", [1]), "nginx": series("a", "nginx", "m", [0])}
    assert ratio(found, "relayd") is None


def test_subjects_are_always_in_the_same_order() -> None:
    assert in_order(["direct", "x", "nginx", "relayd", "nginx"]) == ["relayd", "nginx", "direct", "x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.5, "0.500"),
        (0.0807, "0.0807"),
        (-12.345, "-12.3"),
        (999.6, "1,000"),
        (236_255, "236,000"),
        (1e-6, "0.00000100"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_single_value_has_no_range() -> None:
    assert shown_series([2.0]) == "2.00"
    assert shown_series([2.0, 1.0, 3.0]) == "2.00 (1.00–3.00)"
