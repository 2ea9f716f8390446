"""What a scenario gives, and how hard it is to try."""

from typing import Literal, NamedTuple


class Measurement(NamedTuple):
    """One figure of one run of one subject."""

    scenario: str
    subject: str
    metric: str
    unit: str
    value: float
    better: Literal["lower", "higher", "none"]
    point: str = ""
    """Where on a scale it was measured: "50k/s", "half load", "1,000 sessions" …"""


class Effort(NamedTuple):
    """How long to measure."""

    seconds: float
    """Length of one measured load."""
    rounds: int
    quick: bool
