"""How a test follows a table."""

from collections.abc import Callable

from relayd.core.events import Event
from relayd.core.table import Table


def follow(table: Table, on_event: Callable[[Event], None]) -> None:
    """Has this told of each change of the table as well, while it is told."""
    before = table._on_event

    def both(event: Event) -> None:
        before(event)
        on_event(event)

    table._on_event = both
