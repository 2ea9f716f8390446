"""Entry point: ``python -m fuzz.datagrams``."""

import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from fuzz import forwarder
from fuzz.bounds import Bounds
from fuzz.datagrams.core import Core
from fuzz.datagrams.kernel import Kernel
from fuzz.datagrams.play import play
from fuzz.figures import listed
from relayd.errors import EXIT_UNAVAILABLE
from tests.support import virtual_clock
from tests.support.kernel_program import why_not

_SHARES = {"core": 0.2, "kernel": 0.2, "thread": 0.6}
"""Of all datagrams, by engine: about as fast as each is."""
_FOUND = Path("build/fuzz")
_MOST_SEED = 2**31 - 1

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def datagrams(
    count: Annotated[int, typer.Option(min=1, help="How many in all.")] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of a run before, to repeat it.", show_default="any")] = 0,
    only: Annotated[str, typer.Option(help=f"One engine alone: {', '.join(_SHARES)}.", show_default="all")] = "",
) -> None:
    """Send datagrams of real games, most of them changed, to the core, the kernel program and the thread in C.

    The core is compared with the naive relay, the program with the core, and the thread runs under sanitizers. The exit
    status is 1 if something is wrong, and 69 where an engine cannot be run.
    """
    if only not in ("", *_SHARES):
        raise typer.BadParameter(f"there is no {only!r}; there are: {', '.join(_SHARES)}")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    seed = seed or 1 + secrets.randbelow(_MOST_SEED)
    print(f"seed {seed}", flush=True)
    statuses = [
        _ENGINES[name](count if only else round(count * share), seed)
        for name, share in _SHARES.items()
        if only in ("", name)
    ]
    raise typer.Exit(max(statuses, key=lambda status: (status == 1, status)))


def _core(count: int, seed: int) -> int:
    with _progress("core", count) as progress:
        return _tried("core", count, seed, lambda: play(Core(), Random(seed), count, progress))


def _kernel(count: int, seed: int) -> int:
    if (reason := why_not() or virtual_clock.no_program()) is not None:
        print(f"kernel: not tried, it {reason}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    random = Random(seed)
    with Kernel(random) as kernel, _progress("kernel", count) as progress:
        return _tried("kernel", count, seed, lambda: play(kernel, random, count, progress))


def _thread(count: int, seed: int) -> int:
    folder = _FOUND / forwarder.NAME
    try:
        program = forwarder.build(folder)
    except forwarder.CannotBuildError as error:
        print(f"thread: not tried: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    print("thread:", flush=True)
    return 1 if forwarder.run(program, folder, Bounds(seconds=0, runs=0, units=count), seed) else 0


_ENGINES: dict[str, Callable[[int, int], int]] = {"core": _core, "kernel": _kernel, "thread": _thread}


def _tried(name: str, count: int, seed: int, run: Callable[[], Counter[str]]) -> int:
    began = time.monotonic()
    try:
        outcomes = run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it was found
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"again: python -m fuzz.datagrams --only {name} --seed {seed} --count {count}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(f"{name}: {outcomes.total():,} datagrams in {seconds:.0f} s: nothing broken")
    print(f"{name}: {listed(outcomes)}", flush=True)
    return 0


@contextmanager
def _progress(name: str, count: int) -> Iterator[Callable[[int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}, datagrams", total=count)
        yield lambda more: progress.update(task, advance=more)


if __name__ == "__main__":
    cli(prog_name="python -m fuzz.datagrams")
