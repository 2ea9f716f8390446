"""Usage records on their way to a control plane, which is left alone for a while whenever it does not take them."""

import random

from relayd.core.usage import UsageBatch, UsageDelayedError
from relayd.session_source.control_plane.backoff import Backoff
from relayd.session_source.control_plane.link import Link, LinkError


class UsageOverLink:
    """See `UsageTaker`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._backoff = Backoff(random.random)

    async def take(self, batch: UsageBatch) -> None:
        """See `UsageTaker`."""
        try:
            await self._link.take_usage(batch)
        except LinkError as error:
            pause_seconds = self._backoff.pause_seconds(error.retry_after_seconds)
            raise UsageDelayedError(str(error), pause_seconds) from None
        self._backoff.succeeded()
