"""Which tests run which line of relayd."""

import ast
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coverage import CoverageData

from mutation.copies import Copy, share
from mutation.mutant import Mutant
from mutation.trial import Answer, Outcome, Request

TESTS = ("tests/unit", "tests/property", "tests/scenarios", "tests/thread")
# What these do is not done in the process of the tests; what is compiled in them is no Python.
LEFT_OUT = ("test_sanitizers", "test_relays")


class FailingTestsError(Exception):
    """Without any mutant a test fails, or cannot be run here."""


_FIRST_FILES = 4


@dataclass(frozen=True)
class Touching:
    """Which tests run which line, as one run of all of them showed."""

    root: Path
    """The top of the tree."""
    lines: dict[str, dict[int, set[str]]]
    """By file and line."""
    seconds: dict[str, float]
    """How long each test takes."""
    modules: list[str]
    """What the tests import beside the tree."""
    files: dict[str, str]
    """Digest of each file of tests that was run."""

    def tests(self, mutant: Mutant) -> list[str]:
        """Those that may notice a mutant, the quickest first.

        What runs only while a module is imported (constants, defaults of arguments) is seen by all that use this
        module, or one that imports from it.
        """
        of_file = self.lines.get(mutant.file, {})
        first, last = mutant.lines
        found = {test for line in range(first, last + 1) for test in of_file.get(line, ())}
        if not found or _runs_at_import(self.root / mutant.file, first):
            importing = [file for file in self.lines if _imports(self.root / file, mutant.file)]
            found = {
                test
                for file in (mutant.file, *importing)
                for those in self.lines.get(file, {}).values()
                for test in those
            }
        return sorted(found, key=lambda test: (self.seconds[test], test))

    @cached_property
    def _width(self) -> dict[str, set[str]]:
        """File of tests → the files of relayd that they touch."""
        width: dict[str, set[str]] = defaultdict(set)
        for file, lines in self.lines.items():
            for test in set().union(*lines.values()):
                width[_file_of(test)].add(file)
        return width

    def by_likelihood(self, tests: list[str]) -> tuple[list[str], list[str]]:
        """Those in the few files that touch least else, which are most likely to notice; and the others."""
        files = sorted({_file_of(test) for test in tests}, key=lambda file: (len(self._width[file]), file))
        first = set(files[:_FIRST_FILES])
        return [test for test in tests if _file_of(test) in first], [
            test for test in tests if _file_of(test) not in first
        ]


def known(root: Path, kept: Path) -> Touching:
    """What earlier runs showed of relayd as it is, and of the files of tests that are as they were then."""
    nothing = Touching(root, defaultdict(lambda: defaultdict(set)), {}, [], {})
    found: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    if found.get("relayd") != digest(root, "relayd"):
        return nothing
    same = {file for file, content in found["files"].items() if _digest_of_file(root / file) == content}
    for file, of_file in found["lines"].items():
        for line, tests in of_file.items():
            nothing.lines[file][int(line)] |= {test for test in tests if _file_of(test) in same}
    seconds = {test: taken for test, taken in found["seconds"].items() if _file_of(test) in same}
    files = {file: found["files"][file] for file in same}
    return Touching(root, nothing.lines, seconds, found["modules"], files)


def keep(touching: Touching, kept: Path) -> None:
    """Keeps it for `known`."""
    found = {
        "relayd": digest(touching.root, "relayd"),
        "files": touching.files,
        "seconds": touching.seconds,
        "modules": touching.modules,
        "lines": touching.lines,
    }
    kept.write_text(json.dumps(found, default=sorted), "utf-8")


def digest(root: Path, folder: str) -> str:
    """Of all Python in a folder."""
    found = hashlib.sha256()
    for path in sorted((root / folder).rglob("*.py")):
        found.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _digest_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def unknown(before: Touching) -> list[str]:
    """The files of tests that are still to be run once."""
    root = before.root
    files = sorted(str(path.relative_to(root)) for folder in TESTS for path in (root / folder).rglob("test_*.py"))
    return [file for file in files if file not in before.files and not any(word in file for word in LEFT_OUT)]


def look(before: Touching, files: Sequence[str], copies: Sequence[Copy]) -> Touching:
    """What these files touch, and what was known before. Each is run once, in one of the copies.

    Raises:
        FailingTestsError: a test fails or is skipped.
    """
    answers: list[tuple[Copy, Answer]] = []

    def run(copy: Copy, some: Sequence[str]) -> None:
        if some:
            answers.append((copy, copy.run(Request(list(some), touched=True, every=True, left_out=list(LEFT_OUT)))))

    share(copies, [files[first :: len(copies)] for first in range(len(copies))], run)
    lines, seconds, modules = before.lines, dict(before.seconds), dict.fromkeys(before.modules)
    for copy, answer in answers:
        check(answer)
        seconds |= answer.tests
        modules |= dict.fromkeys(answer.modules)
        data = CoverageData(str(copy.folder / "build" / "touched"))
        data.read()
        for path in data.measured_files():
            file = str(Path(path).relative_to(copy.folder.resolve()))
            for line, contexts in data.contexts_by_lineno(path).items():
                lines[file][line] |= {context for context in contexts if context in answer.tests}
    content = {file: _digest_of_file(before.root / file) for file in files}
    return Touching(before.root, lines, seconds, list(modules), before.files | content)


def check(answer: Answer) -> None:
    """Sees to it that a run without a mutant was fine.

    Raises:
        FailingTestsError: it was not.
    """
    if answer.outcome is not Outcome.SURVIVED:
        raise FailingTestsError(f"without any mutant {answer.by} fails: mend that first")
    if answer.skipped:
        raise FailingTestsError(
            f"{len(answer.skipped)} tests are skipped here, as {answer.skipped[0]}:"
            " python -m pytest -rs says what is missing"
        )


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _runs_at_import(path: Path, line: int) -> bool:
    """Whether a line stands in no function: then it ran for whichever test came first, and for all others too."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return not any(
        isinstance(node, functions) and node.body[0].lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )


def _imports(path: Path, file: str) -> bool:
    """Whether one file of the tree imports from another."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return any(
        (
            isinstance(node, ast.ImportFrom)
            and (node.module == module or any(f"{node.module}.{one.name}" == module for one in node.names))
        )
        or (isinstance(node, ast.Import) and any(one.name == module for one in node.names))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )
