"""`relayd upgrade`: has the running relay replaced by the program that is installed now, in the middle of games."""

import time

import typer
from rich.console import Console

from relayd.admin.answers import RelayStatus
from relayd.client.admin import AdminClient
from relayd.commands.asking import running_relay
from relayd.commands.options import Config
from relayd.errors import FatalError

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0


def upgrade(config: Config = None) -> None:
    """Returns once the new program has taken over.

    That this command runs at all, and has read the configuration, shows that the new program can.

    Raises:
        UnavailableError: no relay answers, or none any more.
        FatalError: it was not replaced.
    """
    client = running_relay(config)
    before = client.upgrade()
    with Console(stderr=True).status(f"replacing relayd {before.version}"):
        after = _wait(client, before.instance)
    typer.echo(f"relayd {before.version} was replaced by {after.version}")


def _wait(client: AdminClient, instance: str) -> RelayStatus:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            status = client.status()
        except FatalError:
            pass  # not there yet; or already on TCP, where one with a socket does not say
        else:
            if status.instance != instance and status.ready:
                return status
        time.sleep(_LOOK_SECONDS)
    raise FatalError(f"the relay was not replaced within {_PATIENCE_SECONDS:.0f} s; its log says why")
