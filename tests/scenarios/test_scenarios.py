"""Every scenario, against every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.forwarder_world import ForwarderWorld
from tests.scenarios.relay_world import relay_world
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.skips import needs_kernel
from tests.scenarios.worlds import EngineWorld, KernelWorld, Play
from tests.thread.compiled import needs_native


@pytest.mark.parametrize("name", SCENARIOS)
def test_core_engine(name: str) -> None:
    Play(EngineWorld()).run(SCENARIOS[name])


@pytest.fixture(params=["full", "partial"])
def kernel(request: pytest.FixtureRequest) -> Iterator[KernelWorld]:
    with KernelWorld(request.param) as world:
        yield world


@needs_kernel
@pytest.mark.parametrize("name", SCENARIOS)
def test_kernel_program(name: str, kernel: KernelWorld) -> None:
    Play(kernel).run(SCENARIOS[name])
    assert kernel.by_kernel or name in ("no host",)


@needs_native
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("name", SCENARIOS)
def test_forwarding_thread(name: str, merge: bool) -> None:
    with ForwarderWorld(merge) as world:
        Play(world).run(SCENARIOS[name])
        assert world.by_thread or name in ("no host", "malformed from strangers")


@needs_kernel
@pytest.mark.parametrize("where", [pytest.param("native", marks=needs_native), "python", "lo", "veth"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_relayd(name: str, where: str, tmp_path: Path) -> None:
    with relay_world(tmp_path, where) as world:
        Play(world).run(SCENARIOS[name])
