"""Uses heartbeats where the control plane takes them, else its public list; asks again now and then."""

from collections.abc import AsyncGenerator, Callable

import structlog

from relayd.core.usage import UsageBatch
from relayd.session_source.control_plane.link import Link, LinkError, News, Reading, Report, Version
from relayd.session_source.control_plane.node_api import NodesNotKnownError
from relayd.session_source.control_plane.public_list import PUBLIC_EPOCH

_ASK_AGAIN_SECONDS = 300.0

_log = structlog.get_logger()


class NegotiatedLink:
    """A link over either.

    Args:
        nodes: with heartbeats.
        public: without.
        clock: seconds, never going back.
    """

    def __init__(self, nodes: Link, public: Link, clock: Callable[[], float]) -> None:
        self._nodes = nodes
        self._public = public
        self._clock = clock
        self._public_until: float | None = None
        self._nodes_known = False

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:
        """See `Link.heartbeat`."""
        if self._public_until is None or self._clock() >= self._public_until:
            try:
                news = await self._nodes.heartbeat(report, wait_seconds)
            except NodesNotKnownError:
                if self._nodes_known or (report.applied and report.applied.epoch != PUBLIC_EPOCH):
                    # It took them before: something between here and there answers in its place.
                    raise
                if self._public_until is None:
                    _log.info("the control plane takes no heartbeats, polling its list of sessions instead")
                self._public_until = self._clock() + _ASK_AGAIN_SECONDS
            else:
                self._public_until = None
                self._nodes_known = True
                return news
        return await self._public.heartbeat(report, wait_seconds)

    async def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        """See `Link.read`."""
        if self._public_until is None:
            async for part in self._nodes.read(applied):
                yield part
            return
        try:
            async for part in self._public.read(applied):
                yield part
        except LinkError:
            self._public_until = self._clock()
            raise

    async def take_usage(self, batch: UsageBatch) -> None:
        """See `Link.take_usage`."""
        await (self._nodes if self._public_until is None else self._public).take_usage(batch)

    async def close(self) -> None:
        """Closes both."""
        await self._nodes.close()
        await self._public.close()
