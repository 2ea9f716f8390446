"""What a run prints."""

from pathlib import Path

from mutation.lists import Accepted, Kind
from mutation.mutant import Mutant, changed_lines
from mutation.report import Result, earlier, keep, summary
from mutation.trial import Answer, Outcome

COUNTS = (
    (Outcome.KILLED, 17),
    (Outcome.TIMEOUT, 2),
    (Outcome.SURVIVED, 2),
    (Outcome.UNTOUCHED, 1),
    (Outcome.STILLBORN, 3),
)


def test_what_is_equivalent_or_no_mutant_is_not_counted_against_the_tests() -> None:
    results = [
        Result(Mutant("a.py", "", (1, 1), "Number", "", f"{outcome} {number}", "b"), Answer(outcome, "", 1))
        for outcome, count in COUNTS
        for number in range(count)
    ]
    accepted = Accepted("a.py", "", f"{Outcome.SURVIVED} 0", "b", Kind.EQUIVALENT, ".")
    worded = Accepted("a.py", "", f"{Outcome.SURVIVED} 1", "b", Kind.WORDING, ".")
    lines = summary(200, results, {one.key: one for one in (accepted, worded)}).splitlines()
    table = {words[0]: words[1].strip() for line in lines[1:] if len(words := line.strip().split("  ", 1)) == 2}
    assert table == {
        "generated": "200",
        "sampled": "25",
        "stillborn": "3",
        "killed": "17",
        "timeout": "2",
        "survived": "1",
        "equivalent": "1",
        "only wording": "1",
        "died, of those not equivalent": "90.5 %",
    }


def test_the_changed_lines_are_named_without_their_place() -> None:
    before = "def some():\n    a = 1\n    b = 2\n    return a\n"
    assert changed_lines(before, before.replace("b = 2", "b = 3")) == ("b = 2", "b = 3")
    assert changed_lines(before, before.replace("    b = 2\n", "")) == ("b = 2", "")


def test_what_survived_is_told_from_what_was_noticed_by_what_was_written(tmp_path: Path) -> None:
    results = [
        Result(Mutant("a.py", "some", (3, 3), "Number", "", str(outcome), "b"), Answer(outcome, "by a test", 1.0))
        for outcome in Outcome
    ]
    keep(tmp_path / "some" / "results.jsonl", results)
    done, survived = earlier(tmp_path / "some" / "results.jsonl")
    assert {result.answer.outcome for result in done} == {Outcome.KILLED, Outcome.TIMEOUT, Outcome.STILLBORN}
    assert survived == {("a.py", "some", "survived", "b"), ("a.py", "some", "untouched", "b")}
    assert [result.noticed for result in done] == [result.answer.outcome != Outcome.STILLBORN for result in done]
