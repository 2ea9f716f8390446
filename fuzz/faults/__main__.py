"""Entry point: ``python -m fuzz.faults``."""

import time
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from fuzz.faults.world import Figures, World

_HOURS_OF_A_WORLD = 10.0

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def faults(
    hours: Annotated[float, typer.Option(min=0.1, help="How much virtual time in all.")] = 1000.0,
    seed: Annotated[int, typer.Option(help="Of the first world; each further one has the next.")] = 1,
) -> None:
    """Simulate games on a relay to which everything happens that may, and check it after every step."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    began = time.monotonic()
    total = Figures()
    first = seed
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulated hours", total=hours)
        while total.hours < hours:
            world = World(seed)
            try:
                total = total.plus(world.run(min(_HOURS_OF_A_WORLD, hours - total.hours)))
            except Exception:
                again = f"python -m fuzz.faults --seed {seed} --hours {_HOURS_OF_A_WORLD:g}"
                typer.echo(f"broken in the world of seed {seed}, after {world.now:.3f} s; again: {again}", err=True)
                raise
            seed += 1
            progress.update(task, completed=total.hours)
    _print(total, first, seed - 1, time.monotonic() - began)


def _print(total: Figures, first: int, last: int, seconds: float) -> None:
    print(f"seeds {first} to {last}: {total.hours:,.0f} hours in {seconds:.0f} s, nothing broken")
    print(f"{total.steps:,} steps, {total.games:,} games, {total.checks:,} checks")
    print(f"{total.datagrams:,} datagrams judged, {total.lost:,} lost before or after")
    for name, counts in (("verdicts", total.verdicts), ("faults", total.faults)):
        shown = (f"{getattr(one, 'label', one)} {count:,}" for one, count in counts.most_common() if count)
        print(f"{name}: {', '.join(shown)}")


if __name__ == "__main__":
    cli(prog_name="python -m fuzz.faults")
