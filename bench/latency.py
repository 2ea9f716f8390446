"""``python -m bench latency``: how much later a datagram arrives for having gone through a relay.

The same sockets send the same load to each other directly, then through the relay, in bursts of a tenth of a
millisecond; the kernel notes when each datagram reaches its socket, so that the generator's own delay is not in it.
What is given are the differences of the quantiles, p50, p99 and p99.9, at shares of each relay's own highest rate, the
same in all rounds. Both paths take turns, and of a quantile the median of all turns counts, so that a moment in which
the machine did something else does not.
"""

from statistics import median

import numpy as np

from bench.load.run import Load, Outcome
from bench.measurement import Effort, Measurement
from bench.stage import SUBJECTS, Stage, staged
from bench.throughput import first_found, highest_rate

SCENARIO = "latency"
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
_SHARES = {"10 % load": 0.1, "half load": 0.5, "90 % load": 0.9}
_EVERY_SECONDS = 0.0001
_TURNS = 5


def subjects(_effort: Effort) -> list[str]:
    """All that can add something."""
    return [name for name in SUBJECTS if name != "direct"]


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    found: list[Measurement] = []
    with staged(subject) as stage:
        if subject not in first_found:
            first_found[subject] = highest_rate(stage, effort)
        for point, share in _SHARES.items():
            if effort.quick and point != "half load":
                continue
            found += _at(subject, stage, Load(effort.seconds, first_found[subject] * share), point)
    return found


def _at(subject: str, stage: Stage, load: Load, point: str) -> list[Measurement]:
    load = load._replace(seconds=load.seconds / _TURNS * 2, every_seconds=_EVERY_SECONDS, stamped=True)
    turns = [(quantiles_us(stage.run_direct(load)), quantiles_us(stage.run(load))) for _ in range(_TURNS)]
    found = []
    for name in QUANTILES:
        direct, through = (median(turn[path][name] for turn in turns) for path in (0, 1))
        found.append(Measurement(SCENARIO, subject, name, "µs", through - direct, "lower", point))
    rate = load.per_second or 0.0
    return [*found, Measurement(SCENARIO, subject, "rate", "1/s", rate, "none", point)]


def quantiles_us(outcome: Outcome) -> dict[str, float]:
    """Of the time from sending to arrival, both directions together."""
    delays = [(arrived - sent)[arrived > 0] for sent, arrived in outcome.times.values()]
    together = np.concatenate(delays)
    if not len(together):
        raise SystemExit("nothing arrived")
    return {name: float(np.quantile(together, share)) / 1e3 for name, share in QUANTILES.items()}
