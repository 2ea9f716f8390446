"""What a module of a scenario offers to the runner."""

from typing import Protocol

from bench.measurement import Effort, Measurement


class Unavailable(Exception):  # noqa: N818 - nothing went wrong
    """A subject or a scenario is not available on this machine; the text is one sentence that says why."""


class Scenario(Protocol):
    """A module with these two functions is one."""

    def subjects(self, effort: Effort) -> list[str]:
        """What it compares; raises Unavailable if it cannot run at all here."""

    def measure(self, subject: str, effort: Effort) -> list[Measurement]:
        """One run of one subject; raises Unavailable if this subject is not available."""
