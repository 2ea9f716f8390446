"""What there is to fuzz. The modules are imported late: what they import is to be watched by the fuzzer then."""

import importlib
from pathlib import Path
from typing import Protocol, cast

from fuzz.figures import Done

TARGETS = {
    "datagrams": "datagrams from anywhere at table and engine, beside a naive relay",
    "limits": "the same at a relay with tight limits and look-ups: what holds whatever its buckets say",
    "session-file": "session files",
    "state-file": "state files: what a restarted relay finds",
    "last-good": "files of last good sessions",
    "node-api": "what a control plane answers a relay",
    "api": "requests to the REST API",
}
CORPUS = Path(__file__).parents[1] / "tests" / "corpus"


class Target(Protocol):
    """A module of `fuzz.targets`."""

    UNIT: str
    """What `check` counts."""

    def check(self, data: bytes) -> Done:
        """Raises if relayd fails at what these bytes stand for. Returns how much that was."""
        ...


def load(name: str) -> Target:
    """The module of a target."""
    return cast(Target, importlib.import_module(f"fuzz.targets.{name.replace('-', '_')}"))


def corpus(name: str) -> list[Path]:
    """What is kept of a target: each file found something that no other did."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
