"""Entry point: ``python -m fuzz TARGET``."""

import importlib.util
import secrets
from pathlib import Path
from typing import Annotated

import typer

from fuzz import coverage, forwarder, registry
from fuzz.bounds import Bounds
from relayd.errors import EXIT_UNAVAILABLE

_FOUND = Path("build/fuzz")
_MOST_SEED = 2**31 - 1
_TARGETS = (*registry.TARGETS, forwarder.NAME)

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def fuzz(
    target: Annotated[str, typer.Argument(help=", ".join(_TARGETS))],
    seconds: Annotated[float, typer.Option(min=0, help="Stop after so long.")] = 0,
    runs: Annotated[int, typer.Option(min=0, help="Stop after so many inputs.")] = 0,
    units: Annotated[int, typer.Option(min=0, help="Stop after so many datagrams, files or requests.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of a run before, to repeat it.", show_default="any")] = 0,
    found: Annotated[Path, typer.Option(metavar="DIR", help="Where to put what is found.")] = _FOUND,
    keep: Annotated[bool, typer.Option("--keep", help="Only keep the best that was found in tests/corpus.")] = False,
    replay: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Only try these inputs.")] = None,
) -> None:
    """Try more and more input on a part of relayd, until it fails or there was enough.

    A failing input is kept as DIR/TARGET/crash-…, and the exit status is not 0.
    """
    if target not in _TARGETS:
        raise typer.BadParameter(f"there is no {target!r}; there are: {', '.join(_TARGETS)}")
    folder, bounds, seed = found / target, Bounds(seconds, runs, units), seed or 1 + secrets.randbelow(_MOST_SEED)
    if target == forwarder.NAME:
        raise typer.Exit(_native(folder, bounds, seed, keep, replay))
    if replay:
        for path in replay:
            registry.load(target).check(path.read_bytes())
            typer.echo(f"{path}: passed")
    elif keep:
        _keep(target, folder)
    elif importlib.util.find_spec("atheris") is None:
        typer.echo("atheris is not installed: `make install-fuzz` does it", err=True)
        raise typer.Exit(EXIT_UNAVAILABLE)
    else:
        coverage.run(target, folder, bounds, seed)


def _native(folder: Path, bounds: Bounds, seed: int, keep: bool, replay: list[Path] | None) -> int:
    try:
        program = forwarder.build(folder)
    except forwarder.CannotBuildError as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    if replay:
        return forwarder.replay(program, replay)
    return forwarder.keep(program, folder) if keep else forwarder.run(program, folder, bounds, seed)


def _keep(target: str, folder: Path) -> None:
    # With these comes what a fuzzer has to watch from the beginning.
    from fuzz import keep, seeds  # noqa: PLC0415

    files = [path for place in (folder / "corpus", registry.CORPUS / target) for path in place.glob("*")]
    inputs = [*seeds.of(target), *(path.read_bytes() for path in files)]
    kept = keep.write(registry.CORPUS / target, keep.fewest(registry.load(target), inputs))
    typer.echo(f"{kept} of {len(inputs)} inputs kept in {registry.CORPUS / target}")


if __name__ == "__main__":
    cli(prog_name="python -m fuzz")
