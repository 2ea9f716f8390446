"""The load generator as a process of its own, on a core of its own, in the network where its sockets are to be."""

import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.load.run import Load, Outcome
from bench.load.shape import Door, Place, Shape

_ROOT = Path(__file__).parents[2]


class Generator:
    """The generator.

    Args:
        shape: who takes part.
        core: where it runs.
        place: where its sockets are.
    """

    def __init__(self, shape: Shape, core: int, place: Place = Place()) -> None:  # noqa: B008 - it is a value
        self.shape = shape
        self._core = core
        self._place = place
        self.host_addresses: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        self._pipe, theirs = Pipe()
        # Not by multiprocessing, which would have the process import all that the benchmark's own has.
        command = [sys.executable, "-m", "bench.load.worker", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()])
        theirs.close()
        self._pipe.send((self.shape, self._core, self._place))
        self.host_addresses = self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.wait()

    def join(self, door: Door) -> int:
        """Brings all peers into a relay. What is returned stands for the way through it."""
        self._pipe.send(("join", (door,)))
        way: int = self._answer()
        return way

    def start(self, load: Load, way: int, relay_pids: Sequence[int] = ()) -> None:
        """Begins a load; `result` waits for its end."""
        self._pipe.send(("run", (load, way, relay_pids)))

    def result(self) -> Outcome:
        """Of the load that was started."""
        outcome: Outcome = self._answer()
        return outcome

    def run(self, load: Load, way: int, relay_pids: Sequence[int] = ()) -> Outcome:
        """Runs a load to its end."""
        self.start(load, way, relay_pids)
        return self.result()

    def _answer(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except EOFError:
            raise SystemExit("the load generator ended unexpectedly") from None
        if failed:
            raise SystemExit(f"the load generator failed:\n{answer}")
        return answer
