"""Entry point: ``python -m mutation python``, ``c`` or ``named``."""

import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mutation import c_places, native, python_places, touching
from mutation.copies import Copy, copy_tree, share
from mutation.lists import StaleEntryError, accepted, named
from mutation.mutant import Mutant
from mutation.report import Result, earlier, keep, summary
from mutation.touching import FailingTestsError, Touching
from mutation.trial import Answer, Outcome, Request

BUILD = Path("build/mutation")
TREE = BUILD / "tree"
"""The tree as it was when the run began, so that it may be worked on meanwhile."""
ROOMS = ("relayd/core", "relayd/forwarding", "relayd/state", "relayd/session_source")
_MOST_SEED = 2**31 - 1
_MOST_BYTES = 8 << 30

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

_Sample = Annotated[int, typer.Option(min=1, help="How many mutants to try.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of a run before, to repeat it.", show_default="any")]
_Workers = Annotated[int, typer.Option(min=1, help="How many to try at once.")]
_Again = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Of the run that wrote this file, try again what survived.")
]
_Only = Annotated[list[str] | None, typer.Option(help="Only files whose path begins like this.")]


@cli.callback()
def mutation() -> None:
    """Puts small defects into a copy of relayd, one at a time, and looks whether a test notices."""


@cli.command("python")
def of_python(
    sample: _Sample = 500, seed: _Seed = 0, only: _Only = None, workers: _Workers = 2, again: _Again = None
) -> None:
    """Changes the Python of core, forwarding, state and session_source, and looks whether a test notices."""
    seed = seed or 1 + secrets.randbelow(_MOST_SEED)
    typer.echo(f"seed {seed}")
    copy_tree(Path(), TREE)
    draw = random.Random(seed)
    files = _files([path for room in ROOMS for path in sorted((TREE / room).rglob("*.py"))], only)
    found = [place for file in files for place in python_places.places(TREE, file)]
    done: list[Result] = []
    if again is None:
        mutants = [python_places.mutant(TREE, place, draw) for place in draw.sample(found, min(sample, len(found)))]
    else:
        done, survived = earlier(again)
        mutants = python_places.with_keys(TREE, found, survived)
    with ExitStack() as stack:
        touched, copies = _python_copies(stack, workers)
        results = _try(copies, mutants, lambda copy, mutant: _try_python(copy, mutant, touched))
    _tell(sum(len(place.ways) for place in found), [*done, *results], f"python-{seed}.jsonl")


@cli.command("c")
def of_c(
    sample: _Sample = 60, seed: _Seed = 0, only: _Only = None, workers: _Workers = 2, again: _Again = None
) -> None:
    """Changes the forwarding thread and the kernel program, and looks whether a test notices."""
    seed = seed or 1 + secrets.randbelow(_MOST_SEED)
    typer.echo(f"seed {seed}")
    copy_tree(Path(), TREE)
    draw = random.Random(seed)
    files = _files([path for folder in native.FOLDERS for path in sorted((TREE / folder).glob("*.[ch]"))], only)
    texts = [path.read_text("utf-8") for path in sorted((TREE / "relayd/forwarding").rglob("*.[ch]"))]
    enumerations = c_places.enumerations(texts)
    found = [place for file in files for place in c_places.places(TREE, file, enumerations)]
    done: list[Result] = []
    if again is None:
        mutants = [c_places.mutant(TREE, place, draw) for place in draw.sample(found, min(sample, len(found)))]
    else:
        done, survived = earlier(again)
        mutants = c_places.with_keys(TREE, found, survived)
    with ExitStack() as stack:
        copies = [stack.enter_context(Copy(TREE, BUILD / f"c{number}")) for number in range(1, workers + 1)]
        seconds = native.baseline(copies[0])
        results = _try(copies, mutants, lambda copy, mutant: native.attempt(copy, mutant, seconds))
    _tell(sum(len(place.ways) for place in found), [*done, *results], f"c-{seed}.jsonl")


@cli.command("named")
def with_a_meaning(
    only: Annotated[list[str] | None, typer.Option(help="Only those of this name.")] = None, workers: _Workers = 2
) -> None:
    """Tries the defects of mutation/named.toml, each of which a test has to notice."""
    copy_tree(Path(), TREE)
    mutants = [entry.mutant(TREE) for entry in named(TREE) if not only or entry.name in only]
    in_c = [mutant for mutant in mutants if not mutant.file.endswith(".py")]
    in_python = [mutant for mutant in mutants if mutant not in in_c]
    results = []
    with ExitStack() as stack:
        if in_python:
            touched, copies = _python_copies(stack, workers)
            results += _try(copies, in_python, lambda copy, mutant: _try_python(copy, mutant, touched))
        if in_c:
            copies = [stack.enter_context(Copy(TREE, BUILD / f"c{number}")) for number in range(1, workers + 1)]
            seconds = native.baseline(copies[0])
            results += _try(copies, in_c, lambda copy, mutant: native.attempt(copy, mutant, seconds))
    for result in results:
        typer.echo(f"{result.mutant.where}: {result.answer.outcome} by {result.answer.by}")
    raise typer.Exit(0 if all(result.noticed for result in results) else 1)


def _files(paths: Sequence[Path], only: Sequence[str] | None) -> list[str]:
    files = [str(path.relative_to(TREE)) for path in paths]
    return [file for file in files if not only or file.startswith(tuple(only))]


def _python_copies(stack: ExitStack, workers: int) -> tuple[Touching, list[Copy]]:
    kept = BUILD / "touching.json"
    touched = touching.known(TREE, kept)
    files = touching.unknown(touched)
    if files:
        typer.echo(f"running {len(files)} files of tests once, to see what they touch")
        with ExitStack() as while_looking:
            copies = [while_looking.enter_context(Copy(TREE, BUILD / str(number))) for number in range(workers)]
            touched = touching.look(touched, files, copies)
        touching.keep(touched, kept)
    typer.echo(f"{len(touched.seconds)} tests, {sum(touched.seconds.values()):.0f} s")
    return touched, [stack.enter_context(Copy(TREE, BUILD / str(number), touched.modules)) for number in range(workers)]


def _try_python(copy: Copy, mutant: Mutant, touched: Touching) -> Answer:
    try:
        compile(mutant.source, mutant.file, "exec")
    except SyntaxError as error:
        return Answer(Outcome.STILLBORN, str(error), 0)
    tests = touched.tests(mutant)
    if not tests:
        return Answer(Outcome.UNTOUCHED, "", 0)
    taken = 0.0
    for some in filter(None, touched.by_likelihood(tests)):
        usual = sum(touched.seconds[test] for test in some)
        files = sorted({test.partition("::")[0] for test in some})
        answer = copy.run(Request(files, some, 20 + 3 * usual, 120 + 20 * usual, _MOST_BYTES))
        taken += answer.seconds
        if answer.outcome is not Outcome.SURVIVED:
            break
    return replace(answer, seconds=taken)


def _try(copies: Sequence[Copy], mutants: Sequence[Mutant], work: Callable[[Copy, Mutant], Answer]) -> list[Result]:
    results: list[Result] = []

    def one(copy: Copy, mutant: Mutant) -> None:
        with copy.changed(mutant):
            result = Result(mutant, work(copy, mutant))
        results.append(result)
        if not result.noticed:
            typer.echo(f"{len(results)} of {len(mutants)}: {result.answer.outcome}: {mutant}")

    share(copies, mutants, one)
    return results


def _tell(generated: int, results: list[Result], name: str) -> None:
    keep(BUILD / name, results)
    typer.echo(summary(generated, results, {entry.key: entry for entry in accepted(TREE)}))


if __name__ == "__main__":
    try:
        cli(prog_name="python -m mutation")
    except (FailingTestsError, StaleEntryError) as error:
        typer.echo(str(error), err=True)
        raise SystemExit(1) from None
