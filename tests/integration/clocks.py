"""The clock of the day as one process sees it; all others, and the one that never goes back, stay the machine's."""

from pathlib import Path

import pytest

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

needs_faketime = pytest.mark.skipif(_LIBRARY is None, reason="not installed: libfaketime (Debian: faketime)")


class Clock:
    """A clock that a file sets.

    Args:
        folder: where the file is.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    def set(self, seconds: int) -> None:
        """So far ahead of the machine's, or behind it, from now on."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n", encoding="ascii")
        beside.replace(self._file)

    def before(self) -> list[str]:
        """What stands before a command so that it goes by this clock."""
        variables = {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return ["env", *(f"{key}={value}" for key, value in variables.items())]
