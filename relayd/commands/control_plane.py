"""`relayd control-plane`: the REST API alone, and its keys."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from relayd import settings
from relayd.control_plane import keys
from relayd.control_plane.errors import StoreUnavailableError, StoreUnusableError
from relayd.control_plane.keys import Scope
from relayd.errors import ConfigurationError, UnavailableError, UsageError
from relayd.event_loop.run import run_loop
from relayd.log import configure
from relayd.settings import RELAY_ID_PATTERN, read_secret
from relayd.supervision.service_manager import ServiceManager

if TYPE_CHECKING:
    from relayd.control_plane.store.sqlite import SqliteStore

T = TypeVar("T")

Config = Annotated[Path | None, typer.Option("--config", help="TOML file.", show_default="/etc/relayd/relayd.toml")]

control_plane = typer.Typer(
    help="Without a command: serve the REST API until SIGTERM or Ctrl-C. The commands are for its secrets.",
    invoke_without_command=True,
    no_args_is_help=False,
    subcommand_metavar="[COMMAND [ARGS]...]",
    add_completion=False,
)
key_commands = typer.Typer(
    help="Add, list and revoke API keys in api.database. A running server knows at once. Run it as its user.",
    no_args_is_help=True,
)
control_plane.add_typer(key_commands, name="keys")


@control_plane.callback()
def run(context: typer.Context, config: Config = None) -> None:
    """Serves, unless there is a command."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    loaded = settings.load(config)
    configure(loaded.log.level, loaded.log.format)
    try:
        from relayd.control_plane.server import serve

        run_loop(serve(loaded, ServiceManager.from_environment(os.environ)))
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from None


@key_commands.command("add")
def add(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="What it is for, to know it by later.", show_default="the relay's"),
    ] = None,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            metavar="SCOPE",
            help="sessions:read, sessions:write (both for backends) or nodes:write (relays). Repeat it for several.",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(metavar="RELAY", help="relay.id of the one relay that the key is for; its scope is nodes:write."),
    ] = None,
    config: Config = None,
) -> None:
    """Make a key and print it. It is not shown again."""
    if node is not None and not re.fullmatch(RELAY_ID_PATTERN, node):
        raise UsageError(f"--node {node!r} is no relay.id: letters, digits, dots, _ and -, at most 128")
    if node is not None and set(scope or ()) - {Scope.NODES_WRITE}:
        raise UsageError("a key of one relay has the scope nodes:write alone; leave --scope out")
    scopes = frozenset(scope or ()) if node is None else frozenset({Scope.NODES_WRITE})
    if not scopes:
        raise UsageError("say what the key may do: --scope, or --node for the key of one relay")
    if name is None and node is None:
        raise UsageError("say what the key is for: keys add NAME --scope SCOPE")
    try:
        key, stored = keys.new_key(
            keys.checked_name(name or (node or "")[: keys.LONGEST_NAME]), scopes, time.time(), node
        )
    except ValueError as error:
        raise UsageError(f"the name {error}") from None
    loaded = settings.load(config or context.obj)
    _with_store(loaded, lambda store: store.add_key(stored), make=True)
    typer.echo(key)
    # The wrong directory, or a missing --config, would go unseen until the key is refused.
    typer.echo(f"key {stored.key_id} added to {_absolute(loaded)}", err=True)


@key_commands.command("list")
def list_keys(context: typer.Context, config: Config = None) -> None:
    """List the keys: id, scopes and the relay that they are of, when made (UTC), name."""
    loaded = settings.load(config or context.obj)
    rows = [
        (
            key.key_id,
            ",".join(sorted(key.scopes)) + ("" if key.node is None else f" of {key.node}"),
            datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d %H:%M"),
            key.name,
        )
        for key in _with_store(loaded, lambda store: store.keys())
    ]
    if not rows:
        typer.echo(f"no keys in {_absolute(loaded)}", err=True)
        return
    if sys.stdout.isatty():  # what reads it from a pipe wants keys alone
        rows.insert(0, ("ID", "SCOPES", "MADE (UTC)", "NAME"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, name in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        typer.echo("  ".join([*padded, name]))


@key_commands.command("revoke")
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    config: Config = None,
) -> None:
    """Revoke a key, at once."""
    if not _with_store(settings.load(config or context.obj), lambda store: store.revoke_key(key_id)):
        raise UsageError(f"there is no key with the id {key_id}; see `relayd control-plane keys list`")


@control_plane.command("webhook-secret")
def webhook_secret(context: typer.Context, config: Config = None) -> None:
    """Print the secret that signs webhooks, for the backend that verifies them."""
    loaded = settings.load(config or context.obj)
    if loaded.api.webhook_secret_file is None:
        typer.echo(_with_store(loaded, lambda store: store.webhook_secret()))
        return
    typer.echo(read_secret(loaded.api.webhook_secret_file, "api.webhook_secret_file"))


def _absolute(loaded: settings.Settings) -> Path:
    return Path(loaded.api.database).absolute()


def _with_store(loaded: settings.Settings, work: "Callable[[SqliteStore], Awaitable[T]]", *, make: bool = False) -> T:
    """Does something with the configured database, which a running server may have open too.

    A missing database is made only with ``make``: otherwise a wrong path would give a new, empty one, and the answer
    that there are no keys.
    """

    async def open_and_do() -> T:
        from relayd.control_plane.store.sqlite import SqliteStore

        store = SqliteStore(loaded.api.database)
        try:
            return await work(store)
        finally:
            await store.close()

    if loaded.api.database == ":memory:":
        raise ConfigurationError('api.database is ":memory:", which keeps no keys; name a file, or use api.token_file')
    if not make and not Path(loaded.api.database).exists():
        raise ConfigurationError(
            f"api.database: there is no database {_absolute(loaded)}; give the server's --config, or run this where the"
            " server runs"
        )
    try:
        return asyncio.run(open_and_do())
    except StoreUnusableError as error:
        raise ConfigurationError(f"api.database: {error}") from None
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from None
