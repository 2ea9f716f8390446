"""The commands that deal with all scenarios: measure them, compare two files of results, renew the README.

Exit status: 0 fine, 1 a defect, 64 wrong usage or a file that is no file of results, 69 nothing to be measured here.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import everything, readme, restarts, soak
from bench.compare import compare as compare_results
from bench.comparison_view import print_comparison
from bench.headline import unmeasured
from bench.namespace import enter
from bench.registry import COMPARED
from bench.results import Results
from relayd.errors import EXIT_USAGE, FatalError, UsageError

ROOT = Path(__file__).parents[1]
RESULTS = Path("bench/results")
LATEST = "latest"
_USAGE_ERROR_OF_TYPER = 2

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@cli.command("all")
def measure_all(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write NAME.json, NAME.md and NAME.png.")],
    name: Annotated[str, typer.Option(help="What to call the files.")] = LATEST,
    quick: Annotated[bool, typer.Option("--quick", help="Only show that all works: one short round.")] = False,
    budget_seconds: Annotated[
        float | None, typer.Option(min=1.0, help="Begin nothing that would take longer than this in all.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Leave out all scenarios but these.")] = None,
) -> None:
    """Measure relayd and its peers side by side."""
    for scenario in only or ():
        if scenario not in COMPARED:
            raise UsageError(f"there is no scenario {scenario!r}; there are: {', '.join(COMPARED)}")
    _make_writable(out)
    enter("all")
    plan = everything.QUICK if quick else everything.FULL
    if budget_seconds is not None:
        plan = plan._replace(budget_seconds=budget_seconds)
    scenarios = {scenario: module for scenario, module in COMPARED.items() if not only or scenario in only}
    results = everything.measure(
        scenarios, plan, _command(quick, plan.budget_seconds, only or ()), Console(stderr=True)
    )
    for missing in unmeasured(results):
        typer.echo(f"Not in the chart: {missing.title}: {missing.scenario} gave no such figure.", err=True)
    written = everything.write(results, out, name)
    typer.echo((out / f"{name}.md").read_text(encoding="utf-8"))
    typer.echo(f"Written: {', '.join(map(str, written))}", err=True)


@cli.command()
def compare(before: Path, after: Path) -> None:
    """Say what changed beyond noise between two files of results."""
    print_comparison(compare_results(Results.load(before), Results.load(after)), Console())


@cli.command("readme")
def renew_readme() -> None:
    """Show the newest results in the README."""
    page = ROOT / "README.md"
    results = Results.load(ROOT / RESULTS / f"{LATEST}.json")
    text = readme.updated(page.read_text(encoding="utf-8"), results, f"{RESULTS}/{LATEST}")
    page.write_text(text, encoding="utf-8")


@cli.command("soak")
def soak_for_hours(
    hours: Annotated[float, typer.Option(min=0.01, help="For so long; the first quarter is full of restarts.")] = 1.0,
) -> None:
    """Run everything for hours and exit with 1 if memory, descriptors or files grow."""
    raise typer.Exit(soak.main(hours))


@cli.command("restarts")
def play_over_restarts(
    terms: Annotated[int, typer.Option(min=0, help="How often the relay gets SIGTERM.")] = 20,
    kills: Annotated[int, typer.Option(min=0, help="How often it gets SIGKILL.")] = 20,
    in_starts: Annotated[bool, typer.Option("--in-starts", help="Also while it starts.")] = False,
) -> None:
    """Play a game over restarts of its relay, and exit with 1 if it notices."""
    raise typer.Exit(restarts.main(restarts.Plan(terms, kills, in_starts)))


NAMES = ("all", "compare", "readme", "restarts", "soak")


def main(arguments: Sequence[str]) -> int:
    """Runs one of the commands; the exit status."""
    try:
        cli(arguments, prog_name="python -m bench")
    except FatalError as error:
        typer.echo(f"bench: {error}", err=True)
        return error.exit_code
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        # typer has explained a wrong usage by now.
        return EXIT_USAGE if end.code == _USAGE_ERROR_OF_TYPER else int(end.code or 0)
    return 0


def _make_writable(folder: Path) -> None:
    """Minutes before there is anything to write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder}: is not writable")


def _command(quick: bool, budget_seconds: float, only: Sequence[str]) -> str:
    """What to type for the same, wherever its results are to go."""
    options = ["--quick"] * quick + [f"--budget-seconds {budget_seconds:g}"] + [f"--only {name}" for name in only]
    return f"python -m bench all --out DIR {' '.join(options)}"
