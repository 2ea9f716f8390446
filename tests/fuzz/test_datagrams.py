"""Datagrams of real games with something changed in them: a short run at the engines, and what it notices."""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from fuzz.datagrams.core import Core
from fuzz.datagrams.kernel import Kernel
from fuzz.datagrams.mutate import Mutator
from fuzz.datagrams.play import Engine, play
from relayd.core import engine
from relayd.core.bad_sources import BadSources
from relayd.core.meter import Meter
from tests.scenarios.skips import needs_virtual_kernel

COUNT = 8_000
SEED = 1


def tried(at: Engine) -> Counter[str]:
    counts: list[int] = []
    outcomes = play(at, Random(SEED), COUNT, counts.append)
    assert outcomes.total() == sum(counts) == COUNT
    return outcomes


def test_the_core_is_as_the_naive_relay() -> None:
    outcomes = tried(Core())
    assert outcomes["forwarded"] > COUNT / 20
    assert len(outcomes) > 10


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(Random(SEED)) as kernel:
        yield kernel


@needs_virtual_kernel
def test_the_kernel_program_is_as_the_engine_alone_and_bears_odd_frames(kernel: Kernel) -> None:
    outcomes = tried(kernel)
    assert outcomes["forwarded"] > COUNT / 20
    assert all(outcomes[f"odd frame {end}"] for end in ("dropped", "passed up", "sent"))


def test_a_seed_is_the_same_datagrams_every_time() -> None:
    first, again, other = (Mutator(Random(seed)).pool(100) for seed in (SEED, SEED, SEED + 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [
        (Meter, "take", lambda meter, size_bytes, now: True),
        (BadSources, "is_bad", lambda sources, source: False),
        (engine, "MAX_DATAGRAM_BYTES", 1201),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_defect_is_noticed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, instead: object) -> None:
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(AssertionError):
        play(Core(), Random(SEED), 10 * COUNT, lambda _: None)
