"""How much fuzzing is enough."""

from typing import NamedTuple


class Bounds(NamedTuple):
    """When to stop; 0: not because of this."""

    seconds: float
    runs: int
    units: int
    """What the target counts: datagrams, files or requests."""
