"""The command line. Exit status: 0 fine, 64 wrong usage, 69 something is not available, 78 bad configuration.

A command's module is imported when it is called, and no other: players wait for a relay that is started again, and all
imports together take longer than all else that it does.
"""

import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from relayd import __version__, commands
from relayd.errors import EXIT_USAGE, FatalError
from relayd.event_loop.output import drain_outputs
from relayd.supervision.capabilities import use_permitted

COMMANDS = {
    "run": "Run the relay.",
    "dev": "Run a relay with a session of its own, to try things out on this machine.",
    "control-plane": "Serve the REST API, and keep its keys.",
    "check": "Say what is wrong with the configuration and this host.",
    "sessions": "List the sessions of the running relay.",
    "session": "Show one session of the running relay: users, bindings, counters, drops.",
    "explain": "Say why a player does or does not get through the running relay.",
    "top": "Show what goes through the running relay, live.",
    "capture": "Write the datagrams of one session into a file, as the running relay gets and sends them.",
    "drain": "Have the running relay take no new games; those that run play on.",
    "upgrade": "Have the running relay replaced by the program that is installed now; games play on.",
    "fast-path": "The kernel program and its pinned state.",
}
"""In the order of `--help`. relayd/commands has a module for each, and in it what runs, by the same name again."""

_USAGE_ERROR_OF_TYPER = 2


def load(name: str) -> Any:
    """A command as typer runs it."""
    name_in_python = name.replace("-", "_")
    found = getattr(import_module(f".{name_in_python}", commands.__name__), name_in_python)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name, help=COMMANDS[name])(found)
        found = alone
    command = typer.main.get_command(found)
    command.help = command.help or COMMANDS[name]
    return command


class _Program(TyperGroup):
    """Knows its commands by name, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """See click's `Group.resolve_command`."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, placeholder if name is None else load(name), rest


cli = typer.Typer(
    cls=_Program,
    help="A self-hosted relay for games that speaks Edgegap's distributed relay protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _only_a_name() -> None:
    """Stands for a command until it is loaded."""


for _name, _help in COMMANDS.items():
    cli.command(_name, help=_help)(_only_a_name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relayd {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """The program `relayd`.

    Args:
        arguments: of its command line; None for those of this process.

    Returns:
        The exit status.
    """
    # What the terminal's character set lacks is shown as something else, never as a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    use_permitted()
    try:
        cli(arguments, prog_name="relayd")
    except FatalError as error:
        for line in str(error).splitlines():
            typer.echo(f"relayd: {line}", err=True)
        return error.exit_code
    except OSError as error:
        typer.echo(f"relayd: {error.strerror or error}", err=True)
        return 1
    except SystemExit as end:
        # typer has explained a wrong usage by now; its own status for that, 2, is not the one of sysexits(3).
        return EXIT_USAGE if end.code == _USAGE_ERROR_OF_TYPER else int(end.code or 0)
    finally:
        drain_outputs()
    return 0
