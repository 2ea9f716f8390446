"""Runs a target under atheris, which keeps what reaches code that nothing reached before. Ends the process."""

import os
import sys
from pathlib import Path

from fuzz import registry, resources
from fuzz.bounds import Bounds
from fuzz.figures import Tally

_REPORT_SECONDS = 5.0
_INPUT_BYTES = 4096
_DICTIONARY = Path(__file__).with_name("json.dict")


class _Watch:
    """Prints now and then how far a run is, and ends the process once it is enough."""

    def __init__(self, tally: Tally, bounds: Bounds) -> None:
        self._tally = tally
        self._bounds = bounds
        self._shown_at = 0.0

    def look(self) -> None:
        """One more run is over."""
        tally, bounds, seconds = self._tally, self._bounds, self._tally.seconds
        if 0 < bounds.seconds <= seconds or 0 < bounds.runs <= tally.runs or 0 < bounds.units <= tally.units:
            tally.conclude(passed=True)
            # libFuzzer has no other end that is a success; what it found is on disk already.
            resources.let_go()
            os._exit(0)
        if seconds - self._shown_at >= _REPORT_SECONDS:
            self._shown_at = seconds
            tally.show()


def run(name: str, found: Path, bounds: Bounds, seed: int) -> None:
    """Fuzzes until it is enough or something is found.

    Args:
        name: of the target.
        found: folder for what is found: in ``corpus`` what reaches more, ``crash-…`` what fails.
        bounds: when it is enough.
        seed: repeats a run that begins with the same folder.
    """
    import atheris  # noqa: PLC0415  # only there with the extra "fuzz"

    # Not before: with them comes what is to be watched.
    with atheris.instrument_imports(include=["relayd", "fuzz.targets", "json.decoder", "json.scanner"]):
        target = registry.load(name)
        from fuzz import seeds  # noqa: PLC0415
    tally = Tally(target.UNIT, seed)
    watch = _Watch(tally, bounds)

    def one_input(data: bytes) -> None:
        try:
            done = target.check(data)
        except BaseException:
            tally.conclude(passed=False)
            raise
        tally.add(done)
        watch.look()

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
