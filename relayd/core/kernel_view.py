"""What those who show counters need of whatever forwards without the engine."""

from collections.abc import Callable, Iterable
from typing import Protocol

from relayd.core.session import Binding, Session
from relayd.core.verdict import Verdict
from relayd.core.wire import Port

Absorb = Callable[[Iterable[Session]], None]
"""Adds what was forwarded without the engine to its counts and to those of these sessions."""


class KernelView(Protocol):
    """A fast path, as metrics and admin see it."""

    @property
    def up(self) -> bool:
        """Whether it is on all of its interfaces."""

    @property
    def bindings_served(self) -> int:
        """How many bindings it serves."""

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        """Of the engine's count, what the kernel decided."""

    def conflicts(self, binding: Binding) -> int:
        """Datagrams in the name of this binding that the kernel dropped, for they came from other addresses."""
