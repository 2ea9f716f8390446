"""What a scenario is asked for, and what it gives: the words between scenarios and the runner."""

from typing import Literal, NamedTuple, Protocol

Better = Literal["lower", "higher", "none"]


class Measurement(NamedTuple):
    """One figure of one run."""

    scenario: str
    subject: str
    metric: str
    unit: str
    value: float
    better: Better
    point: str = ""
    """Where on the scale of the load, such as "50k/s", "half load", "1,000 sessions"; empty if there is but one."""


class Effort(NamedTuple):
    """How long to measure."""

    seconds: float
    """Of each window of measurement."""
    rounds: int
    """That count; the runner may run one more and discard it."""
    quick: bool
    """Whether it is only to be seen that everything works."""


class Unavailable(Exception):  # noqa: N818 - nothing went wrong
    """A subject or a scenario cannot be had on this machine; the text is one sentence that says why."""


class Scenario(Protocol):
    """What a module of a scenario offers."""

    def subjects(self, effort: Effort) -> list[str]:
        """What it compares; raises Unavailable if it cannot run at all here."""

    def measure(self, subject: str, effort: Effort) -> list[Measurement]:
        """One run of one subject; raises Unavailable if this subject is not to be had."""
