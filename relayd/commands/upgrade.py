"""`relayd upgrade`: has the running relay replaced by the program that is installed now, in the middle of games."""

import time
from typing import Any

import typer
from rich.console import Console

from relayd.client.admin import AdminClient
from relayd.errors import FatalError, UnavailableError
from relayd.settings import Settings

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0


def run_upgrade(settings: Settings) -> None:
    """Returns once the new program has taken over.

    That this command runs at all, and has read the configuration, shows that the new program can.

    Raises:
        UnavailableError: no relay answers, or none any more.
        FatalError: it was not replaced.
    """
    client = AdminClient(settings.admin)
    before = client.upgrade()
    with Console(stderr=True).status(f"replacing relayd {before['version']}"):
        after = _wait(client, before["instance"])
    typer.echo(f"relayd {before['version']} was replaced by {after['version']}")


def _wait(client: AdminClient, instance: str) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            status = client.status()
        except UnavailableError:
            pass
        else:
            if status["instance"] != instance and status["ready"]:
                return status
        time.sleep(_LOOK_SECONDS)
    raise FatalError(f"the relay was not replaced within {_PATIENCE_SECONDS:.0f} s; its log says why")
