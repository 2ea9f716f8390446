"""``python -m relayd.forwarding.generated`` writes the headers; with ``--check`` it only says which are not current."""

import sys
from pathlib import Path

from relayd.forwarding.generated.headers import HEADERS

FOLDER = Path(__file__).parent


def outdated() -> list[Path]:
    """The headers that are not what the declaration gives."""
    return [path for path, text in _wanted() if not path.exists() or path.read_text(encoding="utf-8") != text]


def _wanted() -> list[tuple[Path, str]]:
    return [(FOLDER / name, header()) for name, header in HEADERS.items()]


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    stale = outdated()
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path.name} is not what relayd/core/declaration gives: run make generate\n")
        return 1 if stale else 0
    for path, text in _wanted():
        # A header that did not change keeps its time: make would compile again what depends on it.
        if path in stale:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
