"""Whether the kernel program can be run here."""

from functools import cache

from relayd.errors import UnavailableError
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.integration.namespaces import may_make_networks, missing_program


@cache
def why_not() -> str | None:
    if (missing := missing_program()) is not None:
        return f"needs {missing}"
    if not may_make_networks():
        return "needs the right to make network namespaces"
    try:
        KernelProgram.load(Sizes(1, 1)).close()
    except UnavailableError as error:
        return str(error)
    return None
