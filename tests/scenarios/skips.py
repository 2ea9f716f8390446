"""Why a test that needs the kernel program, or an engine compiled for a virtual clock, cannot run here."""

import pytest

from tests.support import virtual_clock
from tests.support.kernel_program import why_not


def _needs(*reasons: str | None) -> pytest.MarkDecorator:
    found = [reason for reason in reasons if reason is not None]
    return pytest.mark.skipif(bool(found), reason="; ".join(found))


needs_kernel = _needs(why_not())
needs_virtual_kernel = _needs(why_not(), virtual_clock.no_program())
needs_virtual_thread = _needs(virtual_clock.no_thread())
