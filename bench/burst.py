"""``python -m bench burst``: ticks. Thirty times a second all hosts send to all their players, all at once."""

import numpy as np
from numpy.typing import NDArray

from bench.load.run import Load, Outcome
from bench.load.shape import Shape
from bench.measurement import Effort, Measurement
from bench.sizes import game_lengths
from bench.stage import SUBJECTS, staged

SCENARIO = "burst"
_TICKS_PER_SECOND = 30
_PLAYERS_PER_SESSION = 16
_SESSIONS = (16, 64)
_QUICK_SESSIONS = (64,)


def subjects(_effort: Effort) -> list[str]:
    """All; the direct path shows how long the sending itself takes."""
    return list(SUBJECTS)


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    found: list[Measurement] = []
    for sessions in _QUICK_SESSIONS if effort.quick else _SESSIONS:
        at_once = sessions * _PLAYERS_PER_SESSION
        shape = Shape(sessions, _PLAYERS_PER_SESSION, game_lengths(), client_sockets=32, host_sockets=8)
        load = Load(
            effort.seconds,
            at_once * _TICKS_PER_SECOND,
            directions=["to_player"],
            every_seconds=1 / _TICKS_PER_SECOND,
            stamped=True,
        )
        with staged(subject, shape=shape) as stage:
            outcome = stage.run(load)
        until_last = until_last_ms(outcome, at_once)
        point = f"{at_once:,} at once"
        found += [
            Measurement(SCENARIO, subject, "lost", "%", outcome.tally.lost_share * 100, "lower", point),
            Measurement(SCENARIO, subject, "until the last", "ms", float(np.median(until_last)), "lower", point),
            Measurement(SCENARIO, subject, "until the last, longest", "ms", float(until_last.max()), "lower", point),
        ]
    return found


def until_last_ms(outcome: Outcome, at_once: int) -> NDArray[np.float64]:
    """For each tick, the time from when its first datagram was sent until its last arrived."""
    sent_ns, arrived_ns = outcome.times["to_player"]
    ticks = len(sent_ns) // at_once
    first = sent_ns[: ticks * at_once].reshape(ticks, at_once)[:, 0]
    last = arrived_ns[: ticks * at_once].reshape(ticks, at_once).max(axis=1)
    until_last: NDArray[np.float64] = np.maximum(last - first, 0) / 1e6
    return until_last
