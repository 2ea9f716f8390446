"""Which of two links is used: heartbeats where they are taken, the public list elsewhere."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from relayd.core.source_status import Load
from relayd.core.usage import UsageBatch
from relayd.session_source.control_plane.link import LinkError, News, Report, Version
from relayd.session_source.control_plane.negotiate import NegotiatedLink
from relayd.session_source.control_plane.node_api import NodesNotKnownError
from relayd.session_source.control_plane.public_list import PUBLIC_EPOCH
from tests.support.links import FakeLink, session
from tests.support.virtual_loop import run

NOTHING = Report(None, Load(0, False), ())


class Both:
    """The two links, and a clock turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes = FakeLink()
        self.public = FakeLink(revisions=False)
        self.nodes.put(session(1))
        self.public.put(session(2))
        self.link = NegotiatedLink(self.nodes, self.public, lambda: self.now)

    def nodes_are(self, known: bool) -> None:
        self.nodes.failure = None if known else NodesNotKnownError("no such path")

    async def read(self) -> list[str]:
        return [spec.session_id async for part in self.link.read(None) for spec in part.upserts]


def with_both(work: Callable[[Both], Coroutine[Any, Any, None]]) -> None:
    async def started() -> None:
        await work(Both())

    run(started())


def test_heartbeats_are_used_where_they_are_taken() -> None:
    async def work(both: Both) -> None:
        assert await both.link.heartbeat(NOTHING, 0.0) == News(both.nodes.version)
        assert await both.read() == ["game-1"]
        await both.link.take_usage(UsageBatch("s", ()))
        assert (len(both.nodes.batches), both.public.reports) == (1, [])

    with_both(work)


def test_elsewhere_the_list_is_used_for_all_there_is_to_ask() -> None:
    async def work(both: Both) -> None:
        both.nodes_are(False)
        assert await both.link.heartbeat(NOTHING, 0.0) is None
        assert await both.read() == ["game-2"]
        await both.link.take_usage(UsageBatch("s", ()))
        assert (both.nodes.batches, len(both.public.batches)) == ([], 1)

    with_both(work)


def test_it_asks_again_every_five_minutes_and_no_more_often() -> None:
    async def work(both: Both) -> None:
        both.nodes_are(False)
        for second in range(0, 609, 7):
            both.now = float(second)
            await both.link.heartbeat(NOTHING, 0.0)
        assert len(both.nodes.reports) == 3
        both.nodes_are(True)
        both.now = 903.0
        assert await both.link.heartbeat(NOTHING, 0.0) == News(both.nodes.version)
        assert await both.read() == ["game-1"]

    with_both(work)


def test_a_list_that_fails_has_heartbeats_tried_at_once() -> None:
    async def work(both: Both) -> None:
        both.nodes_are(False)
        await both.link.heartbeat(NOTHING, 0.0)
        both.public.failure = LinkError("away")
        with pytest.raises(LinkError):
            await both.read()
        both.nodes_are(True)
        assert await both.link.heartbeat(NOTHING, 0.0) == News(both.nodes.version)

    with_both(work)


def test_one_that_took_heartbeats_before_is_believed_to_take_them_still() -> None:
    async def work(both: Both) -> None:
        await both.link.heartbeat(NOTHING, 0.0)
        both.nodes_are(False)
        with pytest.raises(NodesNotKnownError):
            await both.link.heartbeat(NOTHING, 0.0)
        assert both.public.reports == [], "a proxy that answers 404 is no reason to forget the sessions"

    with_both(work)


@pytest.mark.parametrize(("epoch", "falls_back"), [("its own", False), (PUBLIC_EPOCH, True)])
def test_so_is_one_whose_state_an_earlier_process_kept(epoch: str, falls_back: bool) -> None:
    async def work(both: Both) -> None:
        both.nodes_are(False)
        report = Report(Version(epoch, 3), Load(0, False), ())
        if falls_back:
            assert await both.link.heartbeat(report, 0.0) is None
        else:
            with pytest.raises(NodesNotKnownError):
                await both.link.heartbeat(report, 0.0)

    with_both(work)


def test_any_other_failure_is_no_reason_to_use_the_list() -> None:
    async def work(both: Both) -> None:
        both.nodes.failure = LinkError("no answer within 5 s")
        with pytest.raises(LinkError, match="no answer"):
            await both.link.heartbeat(NOTHING, 0.0)
        assert both.public.reports == []

    with_both(work)


def test_both_are_closed() -> None:
    async def work(both: Both) -> None:
        await both.link.close()
        assert both.nodes.closed
        assert both.public.closed

    with_both(work)
