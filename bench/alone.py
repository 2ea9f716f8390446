"""One scenario by itself: one run of each subject, printed as a table."""

import sys
from collections.abc import Sequence

from bench.machine import Machine
from bench.measurement import Effort, Measurement
from bench.namespace import enter
from bench.registry import COMPARED
from bench.scenario import Unavailable
from bench.show import table
from relayd.errors import EXIT_UNAVAILABLE, EXIT_USAGE


def main(name: str, chosen: Sequence[str] | None, seconds: float, quick: bool) -> int:
    """Measures and prints; the exit status."""
    scenario = COMPARED[name]
    effort = Effort(seconds, 1, quick)
    possible = scenario.subjects(effort)
    if unknown := [subject for subject in chosen or () if subject not in possible]:
        print(f"bench {name}: there is no subject {unknown[0]!r}; there are: {', '.join(possible)}", file=sys.stderr)
        return EXIT_USAGE
    enter(name)
    machine = Machine.here()
    print(machine)
    print(", ".join(f"{program} {version}" for program, version in machine.versions.items()))
    found: list[Measurement] = []
    for subject in chosen or possible:
        print(f"{name}: {subject} …", file=sys.stderr, flush=True)
        try:
            found += scenario.measure(subject, effort)
        except Unavailable as reason:
            print(f"{name}: without {subject}: {reason}", file=sys.stderr)
    if not found:
        return EXIT_UNAVAILABLE
    for line in (*table(found), *getattr(scenario, "remarks", lambda _: ())(found)):
        print(line)
    return 0
