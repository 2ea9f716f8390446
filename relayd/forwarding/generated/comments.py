"""What the source says below its names: strings that Python itself does not keep."""

import ast
import inspect
import itertools
from types import ModuleType


def texts_below(module: ModuleType) -> dict[str, str]:
    """The string below each assignment of a module and of its classes, by the name that it is below."""
    found: dict[str, str] = {}
    tree = ast.parse(inspect.getsource(module))
    for body in [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]:
        for node, below in itertools.pairwise(body):
            if isinstance(node, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found |= {target.id: str(below.value.value) for target in node.targets if isinstance(target, ast.Name)}
    return found
