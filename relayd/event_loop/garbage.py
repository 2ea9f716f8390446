"""Keeps Python's garbage collector from holding the event loop.

A full collection visits every object: with 100,000 sessions that takes over 0.1 s, in which no datagram moves. The
table needs no collector, since it breaks its own cycles; so its objects are put where the collector does not look
(`gc.freeze`), and what little else there is gets collected as ever.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from relayd.core.events import Event, EventKind

_GROWTH_BEFORE_SETTLING = 2000
"""New bindings after which objects are frozen again: collecting first then takes about 1 ms."""


def settle() -> None:
    """Collects what is garbage now and exempts all that is left from later collections."""
    gc.collect()
    gc.freeze()


@contextmanager
def many_new_objects() -> Iterator[None]:
    """While many lasting objects are made, nothing is collected; afterwards they are exempt. May be nested."""
    if not gc.isenabled():
        yield
        return
    settle()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Growth:
    """Follows a table, and settles whenever datagrams have brought about some lasting objects."""

    def __init__(self) -> None:
        self._grown = 0

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        if event.kind is not EventKind.USER_BOUND:
            return
        self._grown += 1
        # Where nothing is collected at all, it is settled in the end: see `many_new_objects`.
        if self._grown >= _GROWTH_BEFORE_SETTLING and gc.isenabled():
            self._grown = 0
            settle()
