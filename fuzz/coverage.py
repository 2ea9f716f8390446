"""Runs a target under atheris, which keeps what reaches code that nothing reached before. Ends the process."""

import os
import sys
import time
from pathlib import Path

from fuzz import registry, resources
from fuzz.bounds import Bounds

_REPORT_SECONDS = 5.0
_INPUT_BYTES = 4096
_DICTIONARY = Path(__file__).with_name("json.dict")


class Tally:
    """How much was done, printed now and then."""

    def __init__(self, unit: str, bounds: Bounds) -> None:
        self._unit = unit
        self._bounds = bounds
        self._began = self._reported = time.monotonic()
        self._runs = self._units = 0

    def add(self, units: int) -> None:
        """One more run is over; ends the process with status 0 if that was enough."""
        self._runs += 1
        self._units += units
        now = time.monotonic()
        bounds = self._bounds
        enough = (
            0 < bounds.seconds <= now - self._began or 0 < bounds.runs <= self._runs or 0 < bounds.units <= self._units
        )
        if enough or now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self._print(now - self._began)
        if enough:
            # libFuzzer has no other end that is a success; what it found is on disk already.
            resources.let_go()
            os._exit(0)

    def _print(self, seconds: float) -> None:
        rate = self._units / seconds if seconds else 0.0
        line = f"{self._units:,} {self._unit} in {self._runs:,} runs, {seconds:.0f} s, {rate:,.0f} a second"
        print(line, flush=True)


def run(name: str, found: Path, bounds: Bounds, seed: int) -> None:
    """Fuzzes until it is enough or something is found.

    Args:
        name: of the target.
        found: folder for what is found: in ``corpus`` what reaches more, ``crash-…`` what is not borne.
        bounds: when it is enough.
        seed: repeats a run; 0 for any.
    """
    import atheris  # noqa: PLC0415  # only there with the extra "fuzz"

    # Not before: with them comes what is to be watched.
    with atheris.instrument_imports(include=["relayd", "fuzz.targets", "json.decoder", "json.scanner"]):
        target = registry.load(name)
        from fuzz import seeds  # noqa: PLC0415
    tally = Tally(target.UNIT, bounds)

    def one_input(data: bytes) -> None:
        tally.add(target.check(data))

    folders = [found / "corpus", found / "seeds", registry.CORPUS / name]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds.of(name)):
        (folders[1] / str(number)).write_bytes(data)
    options = [
        f"-artifact_prefix={found}/",
        f"-dict={_DICTIONARY}",
        f"-max_len={_INPUT_BYTES}",
        f"-seed={seed}",
        "-timeout=60",
        "-verbosity=0",
        *map(str, folders),
    ]
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()
