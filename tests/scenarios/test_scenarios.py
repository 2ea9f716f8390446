"""Every scenario, against every engine."""

from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

from tests.scenarios import kernel_world
from tests.scenarios.kernel_world import Kernel
from tests.scenarios.play import Play
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.skips import needs_virtual_kernel, needs_virtual_thread
from tests.scenarios.socket_worlds import ThreadWorld, UvloopWorld
from tests.scenarios.worlds import EngineWorld, NaiveWorld

ENGINE_ALONE = {"no host", "a network of IPv6 addresses is one source"} | {
    name for name, one in SCENARIOS.items() if any(fnmatch(limit, "session_*_per_second") for limit in one.limits)
}
"""What only the engine decides; it alone keeps the rate of a session."""
STRANGERS_ALONE = {"malformed from strangers"}
"""Where all that arrives is for the engine, if it is not dropped before it reaches a socket."""


def those_of(world: str) -> list[str]:
    """Names of the scenarios that are played there."""
    return [name for name, scenario in SCENARIOS.items() if world not in scenario.without]


@pytest.mark.parametrize("name", those_of("naive"))
def test_naive_relay(name: str) -> None:
    Play(NaiveWorld(SCENARIOS[name])).run(SCENARIOS[name].steps)


@pytest.mark.parametrize("name", those_of("engine"))
def test_core_engine(name: str) -> None:
    Play(EngineWorld(SCENARIOS[name])).run(SCENARIOS[name].steps)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with kernel_world.loaded() as kernel:
        yield kernel


@needs_virtual_kernel
@pytest.mark.parametrize("checksum", ["full", "partial"])
@pytest.mark.parametrize("name", those_of("kernel"))
def test_kernel_program(name: str, checksum: str, kernel: Kernel) -> None:
    world = kernel.world(SCENARIOS[name], checksum)
    Play(world).run(SCENARIOS[name].steps)
    assert world.by_kernel or name in ENGINE_ALONE


@needs_virtual_thread
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("name", those_of("thread"))
def test_forwarding_thread(name: str, merge: bool) -> None:
    with ThreadWorld(SCENARIOS[name], merge) as world:
        Play(world).run(SCENARIOS[name].steps)
        assert world.by_thread or name in {*ENGINE_ALONE, *STRANGERS_ALONE}


@pytest.mark.parametrize("name", those_of("uvloop"))
def test_python_forwarder(name: str) -> None:
    with UvloopWorld(SCENARIOS[name]) as world:
        Play(world).run(SCENARIOS[name].steps)
