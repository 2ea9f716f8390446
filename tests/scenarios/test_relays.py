"""Every scenario that needs no exact times, against whole relays."""

from collections.abc import Iterator

import pytest

from tests.scenarios.play import Play
from tests.scenarios.relay_world import Relays
from tests.scenarios.scenario import PROCESSES, Scenario
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.skips import needs_kernel
from tests.thread.compiled import needs_native

_TRIES = 5


def _settings(scenario: Scenario) -> tuple[str, str]:
    return str(sorted(scenario.limits.items())), str(sorted(scenario.fast_path.items()))


# Those with the same settings one after another: a relay serves them all.
_PLAYED = [
    pytest.param(where, name, id=f"{where}-{name}", marks=[pytest.mark.xdist_group(f"relay world {where}")])
    for where in PROCESSES
    for name in sorted(SCENARIOS, key=lambda name: _settings(SCENARIOS[name]))
    if where not in SCENARIOS[name].without
]


@pytest.fixture(scope="module")
def relays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relays]:
    with Relays(tmp_path_factory.mktemp(request.param), request.param) as relays:
        yield relays


@needs_kernel
@needs_native
@pytest.mark.parametrize(("relays", "name"), _PLAYED, indirect=["relays"])
def test_relay(relays: Relays, name: str) -> None:
    """A step may be late on a busy machine; what comes out wrong then is tried again, and only then."""
    for left in reversed(range(_TRIES)):
        world = relays.world(SCENARIOS[name])
        well = False
        try:
            Play(world).run(SCENARIOS[name].steps)
            well = True
        except AssertionError:
            if not left or not world.late:
                raise
        finally:
            relays.over(well)
        if well:
            return
