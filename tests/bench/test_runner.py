"""The runner: in which order, what counts, what is left out, and when it is over."""

import math

import pytest

from bench.measurement import Effort, Measurement
from bench.results import LeftOut
from bench.runner import Outcome, Runner, Turn
from bench.scenario import Scenario, Unavailable
from tests.bench.fakes import FakeClock, FakeScenario

FULL = Effort(seconds=1.0, rounds=3, quick=False)
QUICK = Effort(seconds=0.1, rounds=1, quick=True)


def run(
    scenarios: dict[str, Scenario],
    effort: Effort = FULL,
    budget_seconds: float = 1000.0,
    clock: FakeClock | None = None,
) -> tuple[Outcome, list[Turn]]:
    turns: list[Turn] = []
    return Runner(scenarios, effort, budget_seconds, turns.append, clock or FakeClock()).run(), turns


def values(outcome: Outcome) -> dict[tuple[str, str], tuple[float, ...]]:
    return {(series.scenario, series.subject): series.values for series in outcome.series}


def test_subjects_take_turns_in_every_round_of_every_scenario() -> None:
    scenarios: dict[str, Scenario] = {
        "cost": FakeScenario("cost", {"relayd": [9, 1], "nginx": [9, 2]}),
        "burst": FakeScenario("burst", {"relayd": [9, 3]}),
    }
    _, turns = run(scenarios, Effort(1.0, rounds=1, quick=False))
    once = [("cost", "relayd"), ("cost", "nginx"), ("burst", "relayd")]
    assert turns == [Turn(round_, *turn) for round_ in (0, 1) for turn in once]


def test_the_first_round_is_discarded_and_all_others_are_kept() -> None:
    outcome, _ = run({"cost": FakeScenario("cost", {"relayd": [99, 3, 1, 2]})})
    (series,) = outcome.series
    assert series.values == (3, 1, 2)
    assert (series.median, series.spread) == (2, 2)


def test_a_quick_run_keeps_its_only_round() -> None:
    outcome, turns = run({"cost": FakeScenario("cost", {"relayd": [5]})}, QUICK)
    assert values(outcome) == {("cost", "relayd"): (5,)}
    assert turns == [Turn(1, "cost", "relayd")]


def test_a_quick_run_has_something_of_every_scenario_before_the_time_is_over() -> None:
    clock = FakeClock()

    def take_ten_seconds() -> None:
        clock.now += 10.0

    scenarios: dict[str, Scenario] = {
        "cost": FakeScenario("cost", {"relayd": [1], "nginx": [2], "coturn": [3]}, take_ten_seconds),
        "burst": FakeScenario("burst", {"relayd": [4], "nginx": [5]}, take_ten_seconds),
    }
    outcome, turns = run(scenarios, QUICK, budget_seconds=25.0, clock=clock)
    assert turns == [Turn(1, "cost", "relayd"), Turn(1, "burst", "relayd"), Turn(1, "cost", "nginx")]
    assert {scenario for scenario, _ in values(outcome)} == {"cost", "burst"}


def test_a_subject_that_is_not_to_be_had_is_left_out_with_the_reason_and_not_asked_again() -> None:
    outcome, turns = run({"cost": FakeScenario("cost", {"nginx": [None], "relayd": [9, 1, 2, 3]})})
    assert values(outcome) == {("cost", "relayd"): (1, 2, 3)}
    assert outcome.left_out == [LeftOut(scenario="cost", subject="nginx", reason="nginx is not installed")]
    assert [turn.subject for turn in turns].count("nginx") == 1


def test_a_subject_that_is_lost_on_the_way_keeps_no_figures() -> None:
    outcome, _ = run({"cost": FakeScenario("cost", {"nginx": [9, 1, None]})})
    assert not outcome.series
    assert [left_out.subject for left_out in outcome.left_out] == ["nginx"]


def test_a_scenario_that_cannot_run_here_is_left_out_as_a_whole() -> None:
    class NeedsRoot(FakeScenario):
        def subjects(self, effort: Effort) -> list[str]:
            raise Unavailable("needs root")

    outcome, _ = run({"flood": NeedsRoot("flood", {}), "cost": FakeScenario("cost", {"relayd": [9, 1, 2, 3]})})
    assert values(outcome) == {("cost", "relayd"): (1, 2, 3)}
    assert outcome.left_out == [LeftOut(scenario="flood", subject="", reason="needs root")]


def test_an_exception_that_is_no_answer_ends_the_run() -> None:
    def defect() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run({"cost": FakeScenario("cost", {"relayd": [1]}, defect)})


def test_when_the_time_is_over_what_there_is_stays_and_it_is_said() -> None:
    clock = FakeClock()

    def take_ten_seconds() -> None:
        clock.now += 10.0

    scenario = FakeScenario("cost", {"relayd": [9, 1, 2, 3], "nginx": [9, 4, 5, 6]}, take_ten_seconds)
    outcome, turns = run({"cost": scenario}, budget_seconds=55.0, clock=clock)
    assert clock.now == 50.0, "a turn that would not end in time is not begun"
    assert len(turns) == 5
    assert values(outcome) == {("cost", "relayd"): (1, 2), ("cost", "nginx"): (4,)}
    assert outcome.notes == ["The time of 55 s was over before cost, nginx in round 2 of 3."]


def test_what_the_time_was_not_enough_for_is_left_out_with_that_reason() -> None:
    clock = FakeClock()

    def take_ten_seconds() -> None:
        clock.now += 10.0

    scenario = FakeScenario("cost", {"relayd": [9, 1], "nginx": [9, 4]}, take_ten_seconds)
    outcome, _ = run({"cost": scenario}, budget_seconds=35.0, clock=clock)
    assert values(outcome) == {("cost", "relayd"): (1,)}
    (left_out,) = outcome.left_out
    assert str(left_out) == "cost, nginx: the time was over before a round of it counted"


def test_a_figure_that_is_no_number_is_a_defect_of_the_scenario() -> None:
    with pytest.raises(ValueError, match="cost, relayd: time is nan"):
        run({"cost": FakeScenario("cost", {"relayd": [math.nan]})})


def test_a_figure_under_another_name_is_a_defect_of_the_scenario() -> None:
    class Mistaken(FakeScenario):
        def measure(self, subject: str, effort: Effort) -> list[Measurement]:
            return [Measurement("cost", "nginx", "time", "µs", 1.0, "lower")]

    with pytest.raises(ValueError, match="cost, relayd: gave a figure of something else"):
        run({"cost": Mistaken("cost", {"relayd": []})})
