"""Where Python can be changed, and how: cosmic-ray's operators, and two for statements that are left out."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import MutationVisitor

from mutation.deletions import RemoveAssignment, RemoveCall
from mutation.mutant import Mutant, changed_lines

# Parso's nodes: neither library declares its types as far as they are used here.
Node = Any
Position = tuple[int, int]


class Operator(Protocol):
    """What cosmic-ray asks of an operator."""

    def mutation_positions(self, node: Node) -> Iterator[tuple[Position, Position]]:
        """Where in a node it can change something."""

    def mutate(self, node: Node, index: int) -> Node:
        """The node with one of these changes."""


@dataclass(frozen=True)
class Way:
    """One change: the operator, and which of its occurrences in the file."""

    operator: str
    occurrence: int


@dataclass(frozen=True)
class Place:
    """A place in a file that can be changed in one or several ways, of which a sample takes one."""

    file: str
    where: str
    lines: tuple[int, int]
    ways: tuple[Way, ...]


@cache
def _operators() -> dict[str, Operator]:
    """By name; those left out would only make mutants that are no others, or that no program can tell apart."""
    found: dict[str, Operator] = {"RemoveAssignment": RemoveAssignment(), "RemoveCall": RemoveCall()}
    for name in plugins.operator_names():
        kind = plugins.get_operator(name)
        short = name.rpartition("/")[2]
        # An `==` that becomes `is` is the same for enumerations and small numbers.
        identity = short.startswith("ReplaceComparisonOperator_") and short.endswith(("_Is", "_IsNot"))
        if not kind.arguments() and (not identity or "_Is_" in short or "_IsNot_" in short):
            found[short] = kind()
    return found


def places(root: Path, file: str) -> list[Place]:
    """All places of a file, in its order."""
    tree = get_ast((root / file).read_text("utf-8"))
    ways: dict[tuple[Position, Position, str], list[Way]] = defaultdict(list)
    statements: dict[tuple[Position, Position, str], Node] = {}
    counts: dict[str, int] = defaultdict(int)
    for node in ast_nodes(tree):
        for name, operator in _operators().items():
            if name.startswith("ReplaceBinaryOperator_") and node.type != "operator":
                continue
            for start, end in operator.mutation_positions(node):
                way = Way(name, counts[name])
                counts[name] += 1
                if not _left_out(node):
                    key = (start, end, name.partition("_")[0])
                    ways[key].append(way)
                    statements.setdefault(key, node)
    return [
        Place(file, ASTQuery(statements[key]).get_definition_name() or "", _lines(statements[key]), tuple(those))
        for key, those in sorted(ways.items())
    ]


def mutant(root: Path, place: Place, draw: random.Random) -> Mutant:
    """One of the mutants of a place."""
    return _mutant(root, place, draw.choice(place.ways))


def with_keys(root: Path, found: Sequence[Place], keys: set[tuple[str, str, str, str]]) -> list[Mutant]:
    """The mutants of these places that have one of these keys; one for each key, where there are several."""
    places = {(key[0], key[1]) for key in keys}
    mutants = (
        _mutant(root, place, way) for place in found if (place.file, place.where) in places for way in place.ways
    )
    return list({mutant.key: mutant for mutant in mutants if mutant.key in keys}.values())


def _mutant(root: Path, place: Place, way: Way) -> Mutant:
    before = (root / place.file).read_text("utf-8")
    after = MutationVisitor.mutate_code(before, _operators()[way.operator], way.occurrence)
    assert after is not None, place
    return Mutant(place.file, place.where, place.lines, way.operator, after, *changed_lines(before, after))


def _left_out(node: Node) -> bool:
    """What is the type checker's: annotations, unions of types, protocols, `slots` and `frozen` of data classes; and
    `strict` of zip(), which says what is so.
    """
    while node.parent is not None:
        above = node.parent
        if above.type in ("annassign", "tfpdef") and node is above.children[1 if above.type == "annassign" else 2]:
            return True
        if above.type == "argument" and above.children[0].get_code().strip() == "strict":
            return True
        if above.type == "classdef" and "Protocol" in _bases(above):
            return True
        if above.type == "funcdef" and node is above.annotation:
            return True
        if above.type == "decorator" and above.get_code().strip().startswith("@dataclass") and node.type != "name":
            return True
        if above.type == "file_input" and node.type == "simple_stmt" and "Callable[" in node.get_code():
            return True
        node = above
    return False


def _bases(class_: Node) -> str:
    bases = class_.get_super_arglist()
    return "" if bases is None else str(bases.get_code())


def _lines(node: Node) -> tuple[int, int]:
    """Of the statement around a node; of one with a body, its head only."""
    while node.parent is not None and node.type != "simple_stmt" and node.parent.type not in ("suite", "file_input"):
        node = node.parent
    first: int = node.start_pos[0]
    body = next((child for child in getattr(node, "children", ()) if child.type == "suite"), None)
    last: int = body.start_pos[0] if body is not None else node.end_pos[0]
    return first, max(first, last)
