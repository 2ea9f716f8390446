"""Why a test that needs the kernel program cannot run here."""

import pytest

from tests.support.kernel_program import why_not

needs_kernel = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
