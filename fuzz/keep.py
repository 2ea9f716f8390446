"""The smallest set of inputs that reaches all that many reach: what is worth keeping as a corpus."""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import relayd
from fuzz.registry import Target

ONCE_NOT_BORNE = "crash-"
"""How the names of inputs begin that found something, as libFuzzer names them: these stay, whatever they reach."""
_OURS = str(Path(relayd.__file__).parent)

Step = tuple[CodeType, int, int]
"""From which line to which, and of what."""


def _reached(target: Target, data: bytes) -> frozenset[Step]:
    """The steps that relayd's own code takes on an input."""
    steps: set[Step] = set()

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            return None
        last = 0

        def on_line(line_frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                steps.add((code, last, line_frame.f_lineno))
                last = line_frame.f_lineno
            return on_line

        return on_line

    sys.settrace(on_call)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return frozenset(steps)


def fewest(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """Of these inputs as few as reach as much as all of them, the shortest first. Each has to pass."""
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    target.check(ordered[0])
    reached = {data: _reached(target, data) for data in ordered}
    missing = set().union(*reached.values())
    kept: list[bytes] = []
    while missing:
        best = max(ordered, key=lambda data: len(reached[data] & missing) / (50 + len(data)))
        kept.append(best)
        missing -= reached[best]
    return sorted(kept, key=lambda data: (len(data), data))


def write(folder: Path, inputs: Iterable[bytes]) -> int:
    """Makes a folder hold these inputs and no others, but for those that once failed. Returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / hashlib.sha256(data).hexdigest()[:16]: data for data in inputs}
    for path in folder.iterdir():
        if path not in files and not path.name.startswith(ONCE_NOT_BORNE):
            path.unlink()
    for path, data in files.items():
        path.write_bytes(data)
    return len(files)
