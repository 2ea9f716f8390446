"""Entry point: ``python -m bench SCENARIO``, or one of the commands that deal with all of them."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from bench import adoption, alone, commands, control_plane, fastpath, flood, journal, sync, table, usage
from bench.registry import COMPARED
from relayd.errors import EXIT_USAGE

UNCOMPARED: dict[str, Callable[[], None]] = {
    "adoption": adoption.main,
    "control-plane": control_plane.main,
    "fastpath": fastpath.main,
    "flood": flood.main,
    "journal": journal.main,
    "sync": sync.main,
    "table": table.main,
    "usage": usage.main,
}
"""Scenarios that show relayd alone, and print what they measure themselves."""


def main() -> int:
    """Runs the command or the scenario named on the command line."""
    if len(sys.argv) > 1 and sys.argv[1] in commands.NAMES:
        return commands.main(sys.argv[1:])
    try:
        options = _parser().parse_args()
    except SystemExit as end:
        return int(end.code or 0)
    if options.scenario in COMPARED:
        return alone.main(options.scenario, options.subject, options.seconds, options.quick)
    UNCOMPARED[options.scenario]()
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"bench: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m bench",
        usage=f"python -m bench {{{','.join((*commands.NAMES, *COMPARED, *UNCOMPARED))}}} [options]",
        description="Measures relayd on this machine: one scenario alone, or with `all` those that compare.",
    )
    parser.add_argument("scenario", choices=[*COMPARED, *UNCOMPARED])
    parser.add_argument("--subject", action="append", help="only this one; may be given several times")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measured load (default: 1)")
    parser.add_argument("--quick", action="store_true", help="fewer points")
    return parser


if __name__ == "__main__":
    sys.exit(main())
