"""What belongs to a verdict besides its line in relayd/core/verdict.py. Who adds one is told here what is missing."""

import ast
import functools
from pathlib import Path

import pytest

from relayd.core import verdict as source
from relayd.core.verdict import Verdict
from relayd.forwarding.generated.comments import texts_below
from tests.scenarios.scenarios import SCENARIOS, Send

TESTS = Path(__file__).parents[1]


def in_scenarios() -> set[str]:
    """Labels of what a step of a scenario ends in: every engine that can decide so has to."""
    return {step.verdict for steps in SCENARIOS.values() for step in steps if isinstance(step, Send)}


def asserted(text: str) -> set[str]:
    """Names of verdicts that a test asserts: in an `assert`, or counted with `counted(port, label, …)`."""
    labels = {verdict.label: verdict.name for verdict in Verdict}
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            found |= {
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "Verdict"
            }
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "counted":
            found |= {
                labels[str(argument.value)]
                for argument in node.args
                if isinstance(argument, ast.Constant) and argument.value in labels
            }
    return found


@functools.cache
def provoked() -> set[str]:
    """Names of verdicts that some test provokes."""
    found = {verdict.name for verdict in Verdict if verdict.label in in_scenarios()}
    for path in TESTS.rglob("test_*.py"):
        found |= asserted(path.read_text(encoding="utf-8"))
    return found


def test_numbers_leave_no_gap() -> None:
    """They index counters, in Python and in C."""
    assert [int(verdict) for verdict in Verdict] == list(range(len(Verdict))), "relayd/core/verdict.py: 0, 1, 2, …"


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.label)
def test_it_says_what_it_means(verdict: Verdict) -> None:
    assert texts_below(source).get(verdict.name), f"relayd/core/verdict.py: {verdict.name} needs a sentence below it"


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.label)
def test_a_test_provokes_it(verdict: Verdict) -> None:
    assert verdict.name in provoked(), (
        f"no test provokes {verdict.name}: add a step that ends in {verdict.label!r} to tests/scenarios/scenarios.py,"
        f" or where no peer can cause it a test that asserts Verdict.{verdict.name}"
    )


def test_one_that_is_only_named_is_not_provoked() -> None:
    assert asserted("x = Verdict.NO_HOST\ndo(Verdict.DRAINING)\n") == set()
    assert asserted("assert action.verdict is Verdict.NO_HOST\n") == {"NO_HOST"}
    assert asserted("relay.assert_counted(before, counted('client', 'no_host', DATA))\n") == {"NO_HOST"}
