"""How late the loop is, as it is measured."""

import asyncio

from relayd.event_loop.delay import LoopDelay
from tests.support.virtual_loop import Running, now, run


def test_a_loop_that_is_never_held_is_never_late() -> None:
    async def work() -> None:
        delay = LoopDelay(now)
        async with Running(delay.watch_forever()):
            await asyncio.sleep(10.05)
        assert sum(delay.histogram.counts) == 100
        assert delay.histogram.counts[0] == 100

    run(work())


def test_whatever_holds_the_loop_shows_as_its_lateness() -> None:
    async def work() -> None:
        held = 0.0

        def clock() -> float:
            return now() + held

        delay = LoopDelay(clock)
        async with Running(delay.watch_forever()):
            await asyncio.sleep(1.05)
            held = 0.4  # as if something had run for so long
            await asyncio.sleep(0.1)
            counts = delay.histogram.counts
            assert sum(counts[:-3]) == 10
            assert sum(counts) == 11
            assert 0.39 < delay.histogram.sum_seconds < 0.41

    run(work())
