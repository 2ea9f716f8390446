"""What every relay under test offers to the scenarios."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from bench.load.generator import Generator
from bench.load.shape import Door
from bench.network import Network


class Running(NamedTuple):
    """A relay that runs."""

    door: Door
    pids: list[int]
    """Its processes."""
    forwarded: Callable[[], int] | None = None
    """How many datagrams it says it forwarded, where it says so."""
    settle: Callable[[Generator, int], None] | None = None
    """Called with the generator and its way when all have joined; returns when it forwards as is to be measured."""


Start = Callable[[Generator, Network, Path, int], AbstractContextManager[Running]]
"""Starts a relay for a generator's sockets: (generator, network, folder for its files, core) -> running relay."""
