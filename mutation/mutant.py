"""One small change of one file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A file as it would be with one change in it."""

    file: str
    """Relative to the top of the tree."""
    where: str
    """The function or class that is changed, or "" outside of any."""
    lines: tuple[int, int]
    """First and last line of the statement that is changed, from 1."""
    operator: str
    """What kind of change."""
    source: str
    """The whole file, changed."""
    old: str
    """The lines that are changed, without indentation."""
    new: str
    """What stands there instead."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from others, wherever in the file the lines are."""
        return self.file, self.where, self.old, self.new

    def __str__(self) -> str:
        old, new = (" ⏎ ".join(lines.splitlines()) or "nothing" for lines in (self.old, self.new))
        return f"{self.file}:{self.lines[0]} {self.where}: {old}  →  {new}"


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """The lines in which two texts differ, each without its indentation."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[-1] == new[-1]:
        old.pop()
        new.pop()
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    return "\n".join(plain(old[same:])), "\n".join(plain(new[same:]))


def plain(lines: list[str]) -> list[str]:
    """Without indentation, and without lines that have nothing else."""
    return [line.strip() for line in lines if line.strip()]
