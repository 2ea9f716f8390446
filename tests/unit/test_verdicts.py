"""What belongs to a verdict besides its line in relayd/core/verdict.py. Who adds one is told here what is missing.

And in tests/scenarios/test_nothing_untried.py: something has to provoke it.
"""

import pytest

from relayd.core import verdict as source
from relayd.core.verdict import Verdict
from relayd.forwarding.generated.comments import texts_below


def test_numbers_leave_no_gap() -> None:
    """They index counters, in Python and in C."""
    assert [int(verdict) for verdict in Verdict] == list(range(len(Verdict))), "relayd/core/verdict.py: 0, 1, 2, …"


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.label)
def test_it_says_what_it_means(verdict: Verdict) -> None:
    assert texts_below(source).get(verdict.name), f"relayd/core/verdict.py: {verdict.name} needs a sentence below it"
