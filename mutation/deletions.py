"""Operators for cosmic-ray, which has none that leaves a statement out."""

from collections.abc import Iterator
from typing import Any

from parso.python.tree import Keyword

Node = Any
Position = tuple[int, int]


class _Remove:
    """A statement becomes ``pass``."""

    def mutation_positions(self, node: Node) -> Iterator[tuple[Position, Position]]:
        """The statement, if it is one of those."""
        if node.type == "simple_stmt" and self._is_one(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, _index: int) -> Node:
        """The statement left out."""
        node.children[0] = Keyword("pass", node.start_pos, node.children[0].get_first_leaf().prefix)
        return node

    def _is_one(self, statement: Node) -> bool:
        raise NotImplementedError


class RemoveCall(_Remove):
    """A call whose result is not looked at."""

    def _is_one(self, statement: Node) -> bool:
        called = statement.children[-1] if statement.type == "atom_expr" else None
        if statement.type == "await_expr":
            return True
        return called is not None and called.type == "trailer" and called.children[0].value == "("


class RemoveAssignment(_Remove):
    """An assignment to an attribute or an item, or an addition to anything. Without a name that it sets first, a
    function would only end in a NameError.
    """

    def _is_one(self, statement: Node) -> bool:
        if statement.type == "del_stmt":
            return True
        if statement.type != "expr_stmt":
            return False
        target, operator = statement.children[:2]
        augmented = operator.type == "operator" and operator.value not in ("=", ":")
        return augmented or (target.type == "atom_expr" and operator.type == "operator")
