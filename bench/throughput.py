"""``python -m bench throughput``: the highest rate that a relay forwards with at most 0.1 % lost.

A closed loop finds about where that is, bisection finds it: open loop, both directions, lengths of a game. A load that
only looks loss-free because buffers took what was too much is told from one that is by how long after it the last
datagram arrives. No relay can show more than the direct path does: that is as much as the generator can do.
"""

from bench.load.run import Load, Outcome
from bench.measurement import Effort, Measurement
from bench.stage import SUBJECTS, Stage, staged

SCENARIO = "throughput"
HIGHEST = "highest rate"
MOST_LOST = 0.001
_WINDOW = 512
_STEPS = 6
_QUICK_STEPS = 4
_DRAIN_SHARE = 0.01
_DRAIN_SECONDS = 0.005

first_found: dict[str, float] = {}
"""Highest rates by subject, as this process found them first."""


def subjects(_effort: Effort) -> list[str]:
    """All."""
    return list(SUBJECTS)


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    with staged(subject) as stage:
        rate = highest_rate(stage, effort)
    first_found.setdefault(subject, rate)
    return [Measurement(SCENARIO, subject, HIGHEST, "1/s", rate, "higher")]


def highest_rate(stage: Stage, effort: Effort) -> float:
    """Datagrams a second, both directions together; within about a hundredth, a twentieth when quick."""
    seconds = effort.seconds / 2
    closed = stage.run(Load(seconds, window=_WINDOW))
    estimate = closed.tally.delivered / (closed.seconds + closed.drain_seconds)
    low, high = 0.0, 1.5 * estimate
    rate, best = estimate, 0.0
    for _ in range(_QUICK_STEPS if effort.quick else _STEPS):
        load = Load(seconds, rate)
        outcome = stage.run(load)
        # What else the machine does can spoil one load: only what fails twice is too much.
        if kept_up(outcome) or kept_up(outcome := stage.run(load)):
            low, best = rate, max(best, min(rate, outcome.per_second))
        else:
            high = rate
        if not low:
            rate /= 2
            continue
        rate = (low + high) / 2
    return best


def kept_up(outcome: Outcome) -> bool:
    """Whether the relay forwarded all that it was sent, and in time."""
    in_time = outcome.drain_seconds <= outcome.seconds * _DRAIN_SHARE + _DRAIN_SECONDS
    return in_time and outcome.tally.lost_share <= MOST_LOST
