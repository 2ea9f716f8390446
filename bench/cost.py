"""``python -m bench cost``: microseconds of processor time per forwarded datagram, at fixed rates.

The same load is sent through the relay and, before and after that, past it; the difference is what relaying costs,
wherever it is spent: in the relay's process, or in the kernel on the sender's time (see bench/cpu.py). What the relay's
own process used is given beside it. relayd is also measured on a veth pair, where its fast path runs in the driver.
"""

from collections.abc import Iterator

from bench.cpu import awake, cores
from bench.load.run import Load, Outcome
from bench.measurement import Effort, Measurement
from bench.stage import SUBJECTS, Stage, staged

SCENARIO = "cost"
WHOLE, OWN, LOST, RATE = "CPU per datagram", "CPU per datagram, own process", "lost", "rate"
FULL = "full rate"
_REFERENCE = "50k/s"
_RATES = (10_000, 50_000, 100_000)
_NOISE_US = 0.1
"""Of the difference of two loads: one of -0.03 was seen."""
_ON_VETH = ("relayd", "relayd (fast path)")
_FAST_PATH = "relayd (fast path)"


def subjects(_effort: Effort) -> list[str]:
    """All, and what the load costs by itself."""
    return list(SUBJECTS)


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    found = list(_measure(subject, effort, "lo"))
    if subject in _ON_VETH:
        found += _measure(subject, effort, "veth")
    return found


def _measure(subject: str, effort: Effort, network: str) -> Iterator[Measurement]:
    where = "" if network == "lo" else f", {network}"
    with staged(subject, network) as stage, awake(cores()):
        for rate in _RATES[1:2] if effort.quick else _RATES:
            yield from _at(subject, stage, Load(effort.seconds, rate), f"{rate // 1000}k/s{where}")
        if subject == _FAST_PATH:
            yield from _at(subject, stage, Load(effort.seconds), FULL + where)


def _at(subject: str, stage: Stage, load: Load, point: str) -> Iterator[Measurement]:
    half = load._replace(seconds=load.seconds / 2)
    before = stage.run_direct(half)
    counted = stage.relay.forwarded() if stage.relay.forwarded else None
    through = stage.run(load)
    if stage.relay.forwarded and counted is not None:
        counted = stage.relay.forwarded() - counted
    after = stage.run_direct(half)
    load_us = (before.cpu.total_ns + after.cpu.total_ns) / (before.tally.sent + after.tally.sent) / 1e3
    delivered = max(1, through.tally.delivered)
    if subject == "direct":
        yield Measurement(SCENARIO, subject, WHOLE, "µs", load_us, "none", point)
        return
    whole_us = (through.cpu.total_ns / 1e3 - load_us * through.tally.sent) / delivered
    yield Measurement(SCENARIO, subject, WHOLE, "µs", whole_us, "lower", point)
    yield Measurement(SCENARIO, subject, OWN, "µs", through.cpu.relay_ns / delivered / 1e3, "lower", point)
    yield Measurement(SCENARIO, subject, LOST, "%", through.tally.lost_share * 100, "lower", point)
    yield Measurement(SCENARIO, subject, RATE, "1/s", through.per_second, "none", point)
    _check(subject, point, through, counted)


def _check(subject: str, point: str, through: Outcome, counted: int | None) -> None:
    """Ends the benchmark where a relay did to datagrams what none may do, or miscounts them."""
    tally = through.tally
    if tally.duplicated or tally.corrupted:
        raise SystemExit(f"{subject}, {point}: {tally.duplicated} doubled and {tally.corrupted} altered datagrams")
    if counted is not None and not tally.delivered <= counted <= tally.sent:
        raise SystemExit(f"{subject}, {point}: says it forwarded {counted} datagrams; {tally.delivered} arrived")


def remarks(found: list[Measurement]) -> Iterator[str]:
    """The fast path beside the sockets."""
    values = {(one.subject, one.metric, one.point): one.value for one in found}
    for where in ("", ", veth"):
        same, full = _REFERENCE + where, FULL + where
        if (_FAST_PATH, WHOLE, full) not in values:
            continue
        at_same, at_full, rate, lost = (
            values[_FAST_PATH, metric, point]
            for metric, point in ((WHOLE, same), (WHOLE, full), (RATE, full), (LOST, full))
        )
        for sockets in ("relayd", "relayd (plain)"):
            off = values.get((sockets, WHOLE, same))
            if off is not None:
                yield (
                    f"{sockets} at {same}: {off:.2f} µs; with the fast path {_beside(at_same, off)}, and"
                    f" {_beside(at_full, off)} at {rate:,.0f}/s, the generator's full rate ({lost:.2g} % lost)"
                )


def _beside(value_us: float, other_us: float) -> str:
    if value_us < _NOISE_US:
        return "too little to be told from noise"
    return f"{value_us:.2f} µs ({other_us / value_us:.1f} times less)"
