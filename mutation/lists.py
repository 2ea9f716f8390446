"""What is written down: mutants with a meaning, and survivors that are accepted with a reason."""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutation.mutant import Mutant, changed_lines, plain

ACCEPTED = Path("mutation/accepted.toml")
NAMED = Path("mutation/named.toml")


class StaleEntryError(Exception):
    """An entry no longer speaks of anything that stands in the tree."""


class Kind(StrEnum):
    """Why a survivor is accepted."""

    EQUIVALENT = "equivalent"
    """Nothing that relayd does is different."""
    WORDING = "wording"
    """Only words for people are different, and no test asserts them, by intention."""


@dataclass(frozen=True)
class Accepted:
    """A survivor, and why it is left alone."""

    file: str
    where: str
    old: str
    new: str
    kind: Kind
    reason: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """See `Mutant.key`."""
        return self.file, self.where, self.old, self.new


@dataclass(frozen=True)
class Named:
    """A mutant with a meaning: a defect that tests did not notice before."""

    name: str
    meaning: str
    file: str
    old: str
    new: str

    def mutant(self, root: Path) -> Mutant:
        """It, in the tree as it stands.

        Raises:
            StaleEntryError: the text is not there, or more than once.
        """
        before = (root / self.file).read_text("utf-8")
        if before.count(self.old) != 1:
            raise StaleEntryError(
                f"{NAMED}: {self.name}: {self.file} has {before.count(self.old)} of {self.old!r}: bring it up to date"
            )
        first = before[: before.index(self.old)].count("\n") + 1
        after = before.replace(self.old, self.new)
        lines = first, first + self.old.rstrip("\n").count("\n")
        return Mutant(self.file, self.name, lines, "named", after, *changed_lines(before, after))


def accepted(root: Path) -> list[Accepted]:
    """All accepted survivors.

    Raises:
        StaleEntryError: a file no longer has the lines of an entry.
    """
    found = [
        Accepted(**{**entry, "kind": Kind(entry["kind"])})
        for entry in tomllib.loads((root / ACCEPTED).read_text("utf-8")).get("mutant", [])
    ]
    for entry in found:
        path = root / entry.file
        text = "\n" + "\n".join(plain(path.read_text("utf-8").splitlines())) + "\n" if path.exists() else ""
        if f"\n{entry.old}\n" not in text:
            raise StaleEntryError(f"{ACCEPTED}: {entry.file} {entry.where} no longer has {entry.old!r}: take it out")
    return found


def named(root: Path) -> list[Named]:
    """All mutants with a meaning."""
    return [Named(**entry) for entry in tomllib.loads((root / NAMED).read_text("utf-8"))["mutant"]]
