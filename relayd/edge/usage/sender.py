"""Hands usage records over, batch by batch, until each was taken."""

import asyncio

import structlog

from relayd.core.usage import UsageDelayedError, UsageTaker, UsageUnwantedError
from relayd.edge.usage.journal import Journal

_AT_ONCE = 200
"""Records: about 3 ms to put them into a request."""
_PAUSE_SECONDS = 30.0
"""After a defect."""

_log = structlog.get_logger()


class Sender:
    """Hands over what the disk has: a number that a record had when it was sent is never another's.

    Args:
        journal: whose records.
        taker: whoever is to have them; None for nobody but ``otherwise``.
        otherwise: who gets those that ``taker`` does not want.
    """

    def __init__(self, journal: Journal, taker: UsageTaker | None, otherwise: UsageTaker) -> None:
        self.more = asyncio.Event()
        """To be set when there may be something to send."""
        self._journal = journal
        self._taker = taker
        self._otherwise = otherwise
        self._problem: str | None = None

    async def run_forever(self) -> None:
        """Sends whatever there is, until cancelled."""
        while True:
            await self.more.wait()
            self.more.clear()
            while await self.send():
                pass

    async def send(self) -> bool:
        """One batch. False if there is nothing to send."""
        ledger = self._journal.ledger
        batch = ledger.batch(self._journal.durable, _AT_ONCE)
        if not batch.records:
            return False
        try:
            try:
                await (self._taker or self._otherwise).take(batch)
            except UsageUnwantedError:
                await self._otherwise.take(batch)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the games go on
            if not isinstance(error, UsageDelayedError):
                _log.exception("handing usage records over failed")
                error = UsageDelayedError(f"a defect ({type(error).__name__}), see the log", _PAUSE_SECONDS)
            if str(error) != self._problem:
                _log.warning("usage records are not taken; they are kept", problem=str(error))
            self._problem = str(error)
            lost = ledger.lost
            ledger.relieve()
            if ledger.lost > lost:
                _log.error("too many usage records wait: the oldest are given up", given_up=ledger.lost - lost)
            await asyncio.sleep(error.pause_seconds)
            return True
        if self._problem is not None:
            _log.info("usage records are taken again")
            self._problem = None
        ledger.acknowledge(batch.records[-1].sequence)
        return True
