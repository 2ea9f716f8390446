"""The command line. Exit status: 0 fine, 64 wrong usage, 69 something is not available, 78 bad configuration.

Each command imports what it needs when it runs: players wait for a relay that is started again, and all imports
together take longer than all else that it does.
"""

import asyncio
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relayd import __version__, log, settings
from relayd.commands.control_plane import control_plane
from relayd.errors import EXIT_USAGE, FatalError
from relayd.event_loop.run import run_loop
from relayd.supervision.capabilities import use_permitted

if TYPE_CHECKING:
    from relayd.client.admin import AdminClient

cli = typer.Typer(
    help="A self-hosted relay for games that speaks Edgegap's distributed relay protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

fast_path_cli = typer.Typer(help="The kernel program and its pinned state.", no_args_is_help=True)
cli.add_typer(fast_path_cli, name="fast-path")

Config = Annotated[Path | None, typer.Option(help="Configuration file; else /etc/relayd/relayd.toml if it is there.")]
_USAGE_ERROR_OF_TYPER = 2

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@cli.command()
def run(
    config: Config = None,
    detach_on_exit: Annotated[
        bool, typer.Option("--detach-on-exit", help="Take the kernel fast path off at the end, instead of leaving it.")
    ] = False,
) -> None:
    """Run the relay."""
    from relayd.commands.run import run as run_relay

    loaded = settings.load(config)
    log.configure(loaded.log.level)
    successor = run_loop(run_relay(loaded, detach_on_exit))
    if successor is not None:
        successor.replace_this_program()


@cli.command()
def dev(
    players: Annotated[int, typer.Option(min=0, max=500, help="Play a simulated game with so many players.")] = 0,
    for_seconds: Annotated[
        float | None,
        typer.Option("--for", min=0.5, metavar="SECONDS", help="End after so long; status 0 only if nothing was lost."),
    ] = None,
    config: Config = None,
) -> None:
    """Run a relay with a session of its own, to try things out on this machine."""
    from relayd.commands.dev import DevOptions, run_dev

    loaded = settings.load(config)
    # Beside the live table of a game, lines about every binding would only disturb.
    log.configure("warning" if players else loaded.log.level)
    sys.exit(run_loop(run_dev(loaded, DevOptions(players, for_seconds))))


cli.add_typer(control_plane, name="control-plane")


@cli.command()
def check(config: Config = None) -> None:
    """Say what is wrong with the configuration and this host."""
    from relayd.commands.check import check_host

    sys.exit(asyncio.run(check_host(settings.load(config))))


@cli.command()
def sessions(config: Config = None, as_json: Json = False) -> None:
    """List the sessions of the running relay."""
    from relayd.commands.tables import print_sessions

    print_sessions(_running_relay(config).sessions(), as_json)


@cli.command()
def session(session_id: str, config: Config = None, as_json: Json = False) -> None:
    """Show one session of the running relay: users, bindings, counters, drops."""
    from relayd.commands.tables import print_session

    print_session(_running_relay(config).session(session_id), as_json)


@cli.command()
def explain(
    target: Annotated[str, typer.Argument(help="A user token, a session's id or token, an IP address or IP:port.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say why a player does or does not get through the running relay."""
    from relayd.commands.tables import print_explanation

    print_explanation(_running_relay(config).explain(target), as_json)


@cli.command()
def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print once and return, as happens where there is no terminal.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Between two looks at the relay.")
    ] = 1.0,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines, once.")] = False,
) -> None:
    """Show what goes through the running relay, live."""
    from relayd.commands.top import TopOptions, run_top

    run_top(_running_relay(config), TopOptions(once, interval, as_json))


@cli.command()
def capture(
    session_id: str,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it, as pcapng for Wireshark.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=86400, metavar="SECONDS", help="For how long.")] = 10.0,
    full: Annotated[bool, typer.Option("--full", help="Keep payloads too, not only headers.")] = False,
    max_bytes: Annotated[int, typer.Option(min=1024, metavar="BYTES", help="Size of the file at most.")] = 64 << 20,
    interface: Annotated[str | None, typer.Option(metavar="NAME", help="One network interface; else all.")] = None,
    config: Config = None,
) -> None:
    """Write the datagrams of one session into a file, as the running relay gets and sends them."""
    from relayd.commands.capture import CaptureOptions, run_capture

    run_capture(_running_relay(config), CaptureOptions(session_id, seconds, out, full, max_bytes, interface))


@cli.command()
def drain(
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once nobody plays any more; status 1 if some do.")
    ] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="With --wait: so long at most; else drain.limit_seconds. 0: no limit."
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take new games again.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have the running relay take no new games; those that run play on."""
    from relayd.commands.drain import DrainOptions, run_drain

    sys.exit(run_drain(settings.load(config), DrainOptions(wait, limit, undo, as_json)))


@cli.command()
def upgrade(config: Config = None) -> None:
    """Have the running relay replaced by the program that is installed now; games play on."""
    from relayd.commands.upgrade import run_upgrade

    run_upgrade(settings.load(config))


@fast_path_cli.command("status")
def fast_path_status(config: Config = None) -> None:
    """Say on which interfaces the kernel program is, what it serves, and what keeps it."""
    from relayd.commands.fast_path import print_status

    print_status(settings.load(config))


@fast_path_cli.command("remove")
def fast_path_remove(config: Config = None) -> None:
    """Take the kernel program off all interfaces and forget its pinned state."""
    from relayd.commands.fast_path import remove

    remove(settings.load(config))


def _running_relay(config: Path | None) -> "AdminClient":
    from relayd.client.admin import AdminClient

    return AdminClient(settings.load(config).admin)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relayd {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """The program `relayd`."""
    # What the terminal's character set lacks is shown as something else, never as a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    use_permitted()
    try:
        cli()
    except FatalError as error:
        for line in str(error).splitlines():
            typer.echo(f"relayd: {line}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"relayd: {error.strerror or error}", err=True)
        sys.exit(1)
    except SystemExit as end:
        # typer has explained a wrong usage by now; its own status for that, 2, is not the one of sysexits(3).
        sys.exit(EXIT_USAGE if end.code == _USAGE_ERROR_OF_TYPER else end.code)
