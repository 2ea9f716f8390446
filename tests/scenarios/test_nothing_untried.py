"""Nothing that can become of a datagram is left untried: every verdict has a scenario, or a test that is named here.

Nor is anything that can be set in [limits].
"""

import ast

import pytest

from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from tests.integration.programs import REPOSITORY
from tests.scenarios.scenario import PROCESSES, VIRTUAL
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.steps import Send

PROVOKED_ELSEWHERE = {
    Verdict.SEND_QUEUE_FULL: ("tests/integration/test_send_errors.py", "test_send_queue_full"),
    Verdict.SEND_FAILED: ("tests/integration/test_send_errors.py", "test_send_failed"),
}
"""What takes a network that does not accept what is sent: file, and test in it."""

PROVOKED = {step.verdict for one in SCENARIOS.values() for step in one.steps if isinstance(step, Send)}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_provoked(verdict: Verdict) -> None:
    if verdict in PROVOKED_ELSEWHERE:
        file, name = PROVOKED_ELSEWHERE[verdict]
        functions = [node for node in ast.parse((REPOSITORY / file).read_text()).body if hasattr(node, "name")]
        assert name in [function.name for function in functions], f"{file} has no {name} any more"
        assert verdict.label not in PROVOKED, f"{verdict.label} has a scenario: take it out of PROVOKED_ELSEWHERE"
        return
    assert verdict.label in PROVOKED, (
        f"no scenario provokes {verdict.label}: add one to tests/scenarios/table,"
        f" or name the test that does in PROVOKED_ELSEWHERE of {__name__}"
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_played_somewhere_and_says_why_not_elsewhere(name: str) -> None:
    without = SCENARIOS[name].without
    assert set(without) < {*VIRTUAL, *PROCESSES}
    assert all(without.values())


def test_scenarios_name_no_verdict_that_there_is_not() -> None:
    assert {verdict.label for verdict in Verdict} >= PROVOKED


@pytest.mark.parametrize("limit", sorted(Limits.model_fields.keys() - {"token_bits"}))
def test_every_limit_has_a_scenario(limit: str) -> None:
    """Every engine plays it then. Those that are in `PLAIN` alone are there to be out of the way.

    `token_bits` is the control plane's, which draws tokens.
    """
    assert any(limit in one.limits for one in SCENARIOS.values()), (
        f"no scenario is about limits.{limit}: add one with that limit to tests/scenarios/table"
    )
