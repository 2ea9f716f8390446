"""All scenarios, one after the other, into one set of results: ``python -m bench all``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import chart, markdown
from bench.machine import Machine, debian_package
from bench.measurement import Effort
from bench.results import Results
from bench.runner import Runner, Turn
from bench.scenario import Scenario
from relayd.errors import UnavailableError

PACKAGES = ("nginx", "libnginx-mod-stream", "coturn")
"""Debian's packages of the peers."""


class Plan(NamedTuple):
    """How much to measure."""

    effort: Effort
    budget_seconds: float


FULL = Plan(Effort(seconds=0.5, rounds=3, quick=False), budget_seconds=780.0)
QUICK = Plan(Effort(seconds=0.3, rounds=1, quick=True), budget_seconds=300.0)


def measure(scenarios: Mapping[str, Scenario], plan: Plan, command: str, console: Console) -> Results:
    """Measures, with progress and whatever is left out on the console; UnavailableError if nothing gave a figure."""
    if missing := [name for name in PACKAGES if not debian_package(name)]:
        console.print(
            f"Not installed: {', '.join(missing)}; what needs that is left out."
            f" On Debian: apt-get install {' '.join(missing)}",
            soft_wrap=True,
        )
    measured_at = datetime.now(UTC)
    with _progress(console) as progress:
        runner = Runner(scenarios, plan.effort, plan.budget_seconds, lambda turn: _show(progress, turn))
        progress.add_task("", total=runner.turns)
        outcome = runner.run()
    for sentence in (*(f"Left out: {left_out}" for left_out in outcome.left_out), *outcome.notes):
        console.print(sentence, markup=False, soft_wrap=True)
    if not outcome.series:
        raise UnavailableError("nothing could be measured")
    return Results(
        measured_at=measured_at,
        machine=Machine.here(),
        commands=(command,),
        window_seconds=plan.effort.seconds,
        rounds=plan.effort.rounds,
        discarded_rounds=1 - runner.first_round,
        quick=plan.effort.quick,
        series=tuple(outcome.series),
        left_out=tuple(outcome.left_out),
        notes=tuple(outcome.notes),
    )


def write(results: Results, folder: Path, name: str) -> list[Path]:
    """The results as JSON, as Markdown and, if there is a headline among them, as a chart."""
    data, tables, picture = (folder / f"{name}.{ending}" for ending in ("json", "md", "png"))
    results.save(data)
    tables.write_text(markdown.page(results), encoding="utf-8")
    if chart.draw(results, picture):
        return [data, tables, picture]
    # One of an earlier run would be taken for this one's.
    picture.unlink(missing_ok=True)
    return [data, tables]


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # No thread that draws while something is measured beside it.
        auto_refresh=False,
    )


def _show(progress: Progress, turn: Turn) -> None:
    round_ = f"round {turn.round}" if turn.round else "round to discard"
    for task in progress.tasks:
        progress.update(task.id, advance=1, description=f"{round_}: {turn.scenario}, {turn.subject}", refresh=True)
