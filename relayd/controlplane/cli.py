"""`relayd control-plane`: the REST API alone, and its keys."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import uvloop

from relayd import settings
from relayd.controlplane import keys
from relayd.controlplane.errors import StoreUnavailableError, StoreUnusableError
from relayd.controlplane.keys import Scope
from relayd.controlplane.server import serve
from relayd.controlplane.sqlite import SqliteStore
from relayd.errors import ConfigurationError, UnavailableError, UsageError
from relayd.log import configure
from relayd.settings import read_secret

T = TypeVar("T")

Config = Annotated[Path | None, typer.Option("--config", help="TOML file.", show_default="/etc/relayd/relayd.toml")]

control_plane = typer.Typer(
    help="The REST API alone, and its keys.", invoke_without_command=True, no_args_is_help=False, add_completion=False
)
key_commands = typer.Typer(
    help="API keys, in api.database; run it as the server's user. A change takes effect at once.",
    no_args_is_help=True,
)
control_plane.add_typer(key_commands, name="keys")


@control_plane.callback()
def run(context: typer.Context, config: Config = None) -> None:
    """Runs the REST API until SIGTERM or Ctrl-C."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    loaded = settings.load(config)
    configure(loaded.log.level)
    try:
        uvloop.run(serve(loaded.api))
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from None


@key_commands.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for, to know it by later.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; give it several times for several.")],
    config: Config = None,
) -> None:
    """Makes a key and prints it. It is not shown again."""
    key, stored = keys.new_key(name, frozenset(scope), time.time())
    _with_store(settings.load(config or context.obj), lambda store: store.add_key(stored))
    typer.echo(key)


@key_commands.command("list")
def list_keys(context: typer.Context, config: Config = None) -> None:
    """Lists the keys: id, scopes, when made, name."""
    for key in _with_store(settings.load(config or context.obj), lambda store: store.keys()):
        made = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%d %H:%M")
        typer.echo(f"{key.key_id}  {','.join(sorted(key.scopes))}  {made}  {key.name}")


@key_commands.command("revoke")
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    config: Config = None,
) -> None:
    """Revokes a key, at once."""
    if not _with_store(settings.load(config or context.obj), lambda store: store.revoke_key(key_id)):
        raise UsageError(f"there is no key with the id {key_id}; see `relayd control-plane keys list`")


@control_plane.command("webhook-secret")
def webhook_secret(context: typer.Context, config: Config = None) -> None:
    """Prints the secret that signs webhooks, for the backend that verifies them."""
    loaded = settings.load(config or context.obj)
    if loaded.api.webhook_secret_file is None:
        typer.echo(_with_store(loaded, lambda store: store.webhook_secret()))
        return
    typer.echo(read_secret(loaded.api.webhook_secret_file, "api.webhook_secret_file"))


def _with_store(loaded: settings.Settings, work: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """Does something with the configured database, which a running server may have open too."""

    async def open_and_do() -> T:
        store = SqliteStore(loaded.api.database)
        try:
            return await work(store)
        finally:
            await store.close()

    if loaded.api.database == ":memory:":
        raise ConfigurationError('api.database is ":memory:", which keeps no keys; name a file, or use api.token_file')
    try:
        return asyncio.run(open_and_do())
    except StoreUnusableError as error:
        raise ConfigurationError(f"api.database: {error}") from None
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from None
