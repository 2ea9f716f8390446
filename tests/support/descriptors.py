"""Whether something stays open."""

import os
from contextlib import suppress


def open_descriptors() -> set[tuple[str, str]]:
    """Number and target of each that is open in this process: `after <= before` where nothing new stayed open.

    Not how many there are: what an earlier test left is closed whenever garbage is collected.
    """
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - not one object each
        # The listing's own is closed by now.
        with suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))  # noqa: PTH115
    return found
