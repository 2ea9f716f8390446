"""Entry point: ``python -m fuzz TARGET``."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from fuzz import coverage, registry
from relayd.errors import EXIT_USAGE

_FOUND = Path("build/fuzz")
_MISSING = "atheris is not installed: pip install -e '.[fuzz]'"

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def fuzz(
    target: Annotated[str, typer.Argument(help=", ".join(registry.TARGETS))],
    seconds: Annotated[float, typer.Option(min=0, help="Stop after so long.")] = 0,
    runs: Annotated[int, typer.Option(min=0, help="Stop after so many inputs.")] = 0,
    units: Annotated[int, typer.Option(min=0, help="Stop after so many datagrams, files or requests.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Try the same again; 0 for something new.")] = 0,
    found: Annotated[Path, typer.Option(metavar="DIR", help="Where to put what is found.")] = _FOUND,
    keep: Annotated[bool, typer.Option("--keep", help="Only keep the best of what was found, in tests/corpus.")] = False,
    replay: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Only try these inputs.")] = None,
) -> None:
    """Try more and more input on a part of relayd, until it fails or there was enough.

    An input that it does not bear is kept as DIR/TARGET/crash-…, and the exit status is not 0.
    """
    if target not in registry.TARGETS:
        raise typer.BadParameter(f"there is no {target!r}; there are: {', '.join(registry.TARGETS)}")
    if replay:
        for path in replay:
            registry.load(target).check(path.read_bytes())
            typer.echo(f"{path}: borne")
        return
    if keep:
        _keep(target, found / target)
        return
    if importlib.util.find_spec("atheris") is None:
        typer.echo(_MISSING, err=True)
        raise typer.Exit(EXIT_USAGE)
    coverage.run(target, found / target, coverage.Bounds(seconds, runs, units), seed)


def _keep(target: str, found: Path) -> None:
    from fuzz import keep, seeds  # noqa: PLC0415 - with them comes what a fuzzer has to watch from the beginning

    files = [path for folder in (found / "corpus", registry.CORPUS / target) for path in folder.glob("*")]
    inputs = [*seeds.of(target), *(path.read_bytes() for path in files)]
    kept = keep.write(registry.CORPUS / target, keep.fewest(registry.load(target), inputs))
    typer.echo(f"{kept} of {len(inputs)} inputs kept in {registry.CORPUS / target}")


if __name__ == "__main__":
    cli(prog_name="python -m fuzz")
    sys.exit(0)
