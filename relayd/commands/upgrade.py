"""`relayd upgrade`: has the running relay replaced by the program that is installed now, in the middle of games."""

import time

import typer
from rich.console import Console

from relayd.admin.answers import Program, RelayStatus
from relayd.client.admin import AdminClient
from relayd.commands.asking import running_relay
from relayd.commands.options import Config
from relayd.errors import FatalError, RefusedError

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0


def upgrade(config: Config = None) -> None:
    """Returns once the new program has taken over.

    That this command runs at all, and has read the configuration, shows that the new program can.

    Raises:
        UnavailableError: no relay answers, or none any more.
        RefusedError: it was replaced, and the new program does not answer this user.
        FatalError: it was not replaced.
    """
    client = running_relay(config)
    before = client.upgrade()
    with Console(stderr=True).status(f"replacing relayd {before.version}"):
        after = _wait(client, before)
    typer.echo(f"relayd {before.version} was replaced by {after.version}")


def _wait(client: AdminClient, before: Program) -> RelayStatus:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    refused = False
    while time.monotonic() < deadline:
        try:
            status = client.status()
        except RefusedError as error:
            # It listens on its socket before it answers over TCP: a second refusal is not for want of time.
            if refused:
                raise RefusedError(
                    f"relayd {before.version} was replaced, and its successor does not answer this user: {error}"
                ) from None
            refused = True
        except FatalError:
            refused = False  # not there yet
        else:
            if status.instance != before.instance and status.ready:
                return status
        time.sleep(_LOOK_SECONDS)
    raise FatalError(f"the relay was not replaced within {_PATIENCE_SECONDS:.0f} s; its log says why")
