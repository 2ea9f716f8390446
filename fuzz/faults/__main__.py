"""Entry point: ``python -m fuzz.faults``."""

import time
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from fuzz.faults.world import Figures, World
from fuzz.figures import listed

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
    took = f"{seconds:.0f} s (processor: {time.process_time():.0f} s)"
    verdicts = {verdict.label: count for verdict, count in total.verdicts.items()}
    print(f"{total.hours:,.0f} simulated hours, {total.played_hours:,.0f} with games, in {took}: nothing broken")
    print(f"{total.steps:,} steps, {total.checks:,} checks, seeds {first} to {last}")
    print(f"{total.games:,} games, {total.restarts:,} restarts, {total.datagrams:,} datagrams judged")
    print(f"by the network: lost {total.lost:,}, doubled {total.doubled:,}, overtaken {total.overtaken:,}")
    print(f"verdicts: {listed(verdicts)}")
    print(f"faults: {listed(total.faults)}")


if __name__ == "__main__":
    cli(prog_name="python -m fuzz.faults")
