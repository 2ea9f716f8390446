"""What counts as a change, in which words, and what is warned of."""

import io

import pytest
from rich.console import Console

from bench.compare import Comparison, Word, compare, judge
from bench.comparison_view import print_comparison
from bench.results import Better, Figure, Results
from tests.bench.fakes import MACHINE, results, series


@pytest.mark.parametrize(
    ("before", "after", "better", "word"),
    [
        pytest.param([10, 10, 10], [12, 12, 12], "lower", Word.WORSE, id="higher where lower is better"),
        pytest.param([10, 10, 10], [8, 8, 8], "lower", Word.BETTER, id="lower where lower is better"),
        pytest.param([10, 10, 10], [12, 12, 12], "higher", Word.BETTER, id="higher where higher is better"),
        pytest.param([10, 10, 10], [8, 8, 8], "higher", Word.WORSE, id="lower where higher is better"),
        pytest.param([10, 10, 10], [12, 12, 12], "none", Word.HIGHER, id="higher without a judgement"),
        pytest.param([10, 10, 10], [8, 8, 8], "none", Word.LOWER, id="lower without a judgement"),
        pytest.param([10, 10, 10], [10.25, 10.25, 10.25], "lower", Word.WITHIN_NOISE, id="less than 3 %"),
        pytest.param([9, 10, 10], [11, 12, 12], "lower", Word.WITHIN_NOISE, id="as much as both spreads"),
        pytest.param([9, 10, 10], [11, 12.5, 12], "lower", Word.WITHIN_NOISE, id="less than both spreads"),
        pytest.param([9.5, 10, 10], [12, 12.5, 12], "lower", Word.WORSE, id="more than both spreads"),
        pytest.param([10, 10], [20, 20, 20], "lower", Word.UNKNOWN, id="too few before"),
        pytest.param([10, 10, 10], [20], "lower", Word.UNKNOWN, id="too few after"),
        pytest.param([0, 0, 0], [0, 0, 0], "lower", Word.WITHIN_NOISE, id="nothing and nothing"),
        pytest.param([0, 0, 0], [1, 1, 1], "lower", Word.WORSE, id="from nothing"),
        pytest.param([1, 1, 1], [0, 0, 0], "lower", Word.BETTER, id="to nothing"),
    ],
)
def test_rule(before: list[float], after: list[float], better: Better, word: Word) -> None:
    assert judge(series("a", "b", "c", before, better), series("a", "b", "c", after, better)) is word


def test_another_unit_is_not_compared() -> None:
    assert (
        judge(series("a", "b", "c", [1] * 3, unit="µs"), series("a", "b", "c", [1000] * 3, unit="ns")) is Word.UNKNOWN
    )


def text(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_comparison(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


BEFORE = results(
    series("cost", "relayd", "CPU", [4.0, 4.1, 4.2], point="50k/s"),
    series("cost", "relayd (plain)", "CPU", [6.0, 6.1, 6.2], point="50k/s"),
    series("burst", "relayd", "loss", [0, 0, 0]),
)
AFTER = results(
    series("cost", "relayd", "CPU", [2.0, 2.1, 2.2], point="50k/s"),
    series("cost", "relayd (plain)", "CPU", [6.1, 6.1, 6.2], point="50k/s"),
    series("cost", "relayd (fast path)", "CPU", [0.5, 0.5, 0.5], point="50k/s"),
)


def test_says_what_changed_and_how_much_did_not() -> None:
    comparison = compare(BEFORE, AFTER)
    (change,) = comparison.beyond_noise()
    assert (change.figure, change.percent) == (Figure("cost", "relayd", "CPU", "50k/s"), "-48.8%")
    said = text(comparison)
    (row,) = [line for line in said.splitlines() if "-48.8%" in line]
    assert " ".join(row.split()) == "cost relayd CPU, 50k/s, µs 4.10 (4.00–4.20) 2.10 (2.00–2.20) -48.8% better"
    assert "1 better, 0 worse, 1 within noise" in said
    assert "Only before: 1 figures, of burst, relayd." in said
    assert "Only after: 1 figures, of cost, relayd (fast path)." in said
    assert "Careful" not in said


def test_says_that_nothing_changed() -> None:
    assert "Nothing changed beyond noise." in text(compare(BEFORE, BEFORE))


def test_says_that_too_few_values_say_nothing() -> None:
    quick = results(series("cost", "relayd", "CPU", [4.0]))
    assert "1 say nothing: fewer than 3 values" in text(compare(quick, quick))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"kernel": "Linux 6.9"}, "The versions differ: kernel Linux 6.1 before, Linux 6.9 after."),
        ({"python": "CPython 3.14"}, "The versions differ: python CPython 3.11.2 before, CPython 3.14 after."),
        ({"versions": {"nginx": "1"}}, "The versions differ: nginx none before, 1 after."),
    ],
)
def test_warns_when_versions_differ(change: dict[str, object], warning: str) -> None:
    after = results(*BEFORE.series, machine=MACHINE.model_copy(update=change))
    assert f"Careful: {warning}" in text(compare(BEFORE, after))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"processor": "Y"}, "processor Processor X before, Y after"),
        ({"cores": 4}, "cores 2 before, 4 after"),
    ],
)
@pytest.mark.parametrize("figures", [BEFORE, AFTER])
def test_two_machines_are_not_compared(figures: Results, change: dict[str, object], difference: str) -> None:
    after = results(*figures.series, machine=MACHINE.model_copy(update=change))
    assert text(compare(BEFORE, after)) == (
        f"Two machines cannot be compared: {difference}. Measure both versions on one of them.\n"
    )


def test_another_relayd_is_what_one_compares_for() -> None:
    machine = MACHINE.model_copy(update={"versions": {"relayd": "0.2.0"}})
    assert not compare(BEFORE, results(*BEFORE.series, machine=machine)).warnings


def test_warns_when_a_peer_moved_by_itself() -> None:
    def with_nginx(value: float) -> Results:
        return results(series("cost", "nginx", "CPU", [value] * 3), series("burst", "nginx", "loss", [0] * 3))

    assert compare(with_nginx(6.0), with_nginx(9.0)).warnings == [
        "nginx is the same, yet 1 of its 2 figures moved: so did the machine."
    ]


def test_warns_when_the_windows_differ() -> None:
    after = BEFORE.model_copy(update={"window_seconds": 0.3})
    assert compare(BEFORE, after).warnings == ["The windows of measurement differ: 2 s before, 0.3 s after."]
