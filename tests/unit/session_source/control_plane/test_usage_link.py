"""Usage records on their way: how long the sender is to wait after each failure."""

import pytest

from relayd.core.usage import UsageBatch, UsageDelayedError, UsageRefusedError
from relayd.session_source.control_plane.link import LinkError
from relayd.session_source.control_plane.usage_link import UsageOverLink
from tests.support.links import FakeLink
from tests.support.virtual_loop import run

BATCH = UsageBatch("stream", ())


def test_a_batch_is_handed_on() -> None:
    async def work() -> None:
        link = FakeLink()
        await UsageOverLink(link).take(BATCH)
        assert link.batches == [BATCH]

    run(work())


def test_each_failure_waits_longer_until_one_succeeds() -> None:
    async def work() -> None:
        link = FakeLink()
        usage = UsageOverLink(link)

        async def pause_seconds(error: LinkError) -> float:
            link.usage_failure = error
            with pytest.raises(UsageDelayedError, match="away") as caught:
                await usage.take(BATCH)
            return caught.value.pause_seconds

        pauses = [await pause_seconds(LinkError("away")) for _ in range(12)]
        assert pauses[0] <= 0.5
        assert all(15.0 <= pause <= 30.0 for pause in pauses[7:])
        assert await pause_seconds(LinkError("away", 200.0)) == 200.0
        link.usage_failure = None
        await usage.take(BATCH)
        assert await pause_seconds(LinkError("away")) <= 0.5

    run(work())


def test_what_is_refused_for_good_is_not_waited_for() -> None:
    async def work() -> None:
        link = FakeLink()
        link.usage_failure = UsageRefusedError("too odd")
        with pytest.raises(UsageRefusedError):
            await UsageOverLink(link).take(BATCH)

    run(work())
