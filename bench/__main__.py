"""Entry point: ``python -m bench SCENARIO``, or one of the commands that deal with all of them."""

import sys
from collections.abc import Callable

from bench import adoption, commands, control_plane, fastpath, flood, sync, table, usage

SCENARIOS: dict[str, Callable[[], None]] = {
    "adoption": adoption.main,
    "control-plane": control_plane.main,
    "fastpath": fastpath.main,
    "flood": flood.main,
    "sync": sync.main,
    "table": table.main,
    "usage": usage.main,
}


def main() -> int:
    """Runs the command or the scenario named on the command line."""
    if len(sys.argv) > 1 and sys.argv[1] in commands.NAMES:
        return commands.main(sys.argv[1:])
    chosen = SCENARIOS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if chosen is None:
        print(f"usage: python -m bench {{{','.join((*commands.NAMES, *SCENARIOS))}}}", file=sys.stderr)
        return 64
    chosen()
    return 0


if __name__ == "__main__":
    sys.exit(main())
