"""Entry point: ``python -m bench SCENARIO``."""

import argparse
import sys
from collections.abc import Callable

from bench import control_plane, fastpath, flood, namespace, sync, table
from bench.machine import describe, versions
from bench.measurement import Effort, Measurement
from bench.scenarios import SCENARIOS
from bench.show import table as shown

COMMANDS: dict[str, Callable[[], None]] = {
    "control-plane": control_plane.main,
    "fastpath": fastpath.main,
    "flood": flood.main,
    "sync": sync.main,
    "table": table.main,
}


def main() -> int:
    """Runs the scenario named on the command line."""
    options = _parser().parse_args()
    if options.scenario in COMMANDS:
        COMMANDS[options.scenario]()
        return 0
    scenario = SCENARIOS[options.scenario]
    effort = Effort(options.seconds, 1, options.quick)
    possible = scenario.subjects(effort)
    chosen = options.subject or possible
    if unknown := [name for name in chosen if name not in possible]:
        print(f"{options.scenario}: no subject {unknown[0]!r}; there are {', '.join(possible)}", file=sys.stderr)
        return 64
    namespace.enter(options.scenario)
    print(describe())
    print(versions())
    found: list[Measurement] = []
    for subject in chosen:
        print(f"{options.scenario}: {subject} …", file=sys.stderr, flush=True)
        found += scenario.measure(subject, effort)
    print("\n".join(shown(found)))
    for line in getattr(scenario, "remarks", lambda _: ())(found):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures relayd on this machine.")
    parser.add_argument("scenario", choices=[*SCENARIOS, *COMMANDS])
    parser.add_argument("--subject", action="append", help="only this one; may be given several times")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measured load (default: 1)")
    parser.add_argument("--quick", action="store_true", help="fewer points")
    return parser


if __name__ == "__main__":
    sys.exit(main())
