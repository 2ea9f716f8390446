"""What commands share that ask a running relay."""

import json
from pathlib import Path
from typing import Any

import typer

from relayd import settings
from relayd.client.admin import AdminClient


def running_relay(config: Path | None) -> AdminClient:
    """The relay with this configuration."""
    return AdminClient(settings.load(config), config)


def print_json(shown: Any) -> None:
    """Prints it for machines. Characters beyond ASCII are escaped: whatever terminal or pipe it goes to has them."""
    typer.echo(json.dumps(shown, indent=2))
