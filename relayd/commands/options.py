"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="Configuration file; else /etc/relayd/relayd.toml if it is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
