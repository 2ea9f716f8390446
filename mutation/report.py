"""What is printed: a line for each survivor, and a table."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mutation.lists import Accepted, Kind
from mutation.mutant import Mutant
from mutation.trial import Answer, Outcome

_NOTICED = (Outcome.KILLED, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Result:
    """A mutant, and what became of it."""

    mutant: Mutant
    answer: Answer

    @property
    def noticed(self) -> bool:
        """Whether a test failed, or the mutant did not end."""
        return self.answer.outcome in _NOTICED


def summary(generated: int, results: Sequence[Result], accepted: Mapping[tuple[str, str, str, str], Accepted]) -> str:
    """The counts of a run, and the share of mutants that died of those that are not equivalent, as a table."""
    counts = Counter(result.answer.outcome for result in results)
    spared = Counter(
        accepted[result.mutant.key].kind for result in results if not result.noticed and result.mutant.key in accepted
    )
    left = len(results) - counts[Outcome.STILLBORN] - spared[Kind.EQUIVALENT]
    died = counts[Outcome.KILLED] + counts[Outcome.TIMEOUT]
    table = Table("", "mutants", box=None)
    for name, count in (
        ("generated", generated),
        ("sampled", len(results)),
        ("stillborn", counts[Outcome.STILLBORN]),
        ("killed", counts[Outcome.KILLED]),
        ("timeout", counts[Outcome.TIMEOUT]),
        ("survived", counts[Outcome.SURVIVED] + counts[Outcome.UNTOUCHED] - sum(spared.values())),
        ("equivalent", spared[Kind.EQUIVALENT]),
        ("only wording", spared[Kind.WORDING]),
        ("died, of those not equivalent", f"{100 * died / left:.1f} %" if left else "-"),
    ):
        table.add_row(name, str(count))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def keep(path: Path, results: Sequence[Result]) -> None:
    """Writes down what became of each mutant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "file": result.mutant.file,
            "where": result.mutant.where,
            "line": result.mutant.lines[0],
            "operator": result.mutant.operator,
            "old": result.mutant.old,
            "new": result.mutant.new,
            "outcome": result.answer.outcome,
            "by": result.answer.by,
            "seconds": round(result.answer.seconds, 1),
        }
        for result in results
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def earlier(path: Path) -> tuple[list[Result], set[tuple[str, str, str, str]]]:
    """What `keep` wrote of a run: what was noticed or stillborn, and the keys of what survived."""
    done, survived = [], set()
    for one in map(json.loads, path.read_text("utf-8").splitlines()):
        lines = one["line"], one["line"]
        mutant = Mutant(one["file"], one["where"], lines, one["operator"], "", one["old"], one["new"])
        result = Result(mutant, Answer(Outcome(one["outcome"]), one["by"], one["seconds"]))
        if result.answer.outcome in (Outcome.SURVIVED, Outcome.UNTOUCHED):
            survived.add(mutant.key)
        else:
            done.append(result)
    return done, survived
