"""Sends usage records, batch by batch, until each is acknowledged."""

import asyncio

import structlog

from relayd.core.usage import UsageBatch, UsageDelayedError, UsageRefusedError, UsageTaker, UsageUnwantedError
from relayd.usage.journal import Journal

_AT_ONCE = 200
"""Records: about 3 ms to put them into a request."""
_PAUSE_SECONDS = 30.0
"""After a defect."""

_log = structlog.get_logger()


class Sender:
    """Sends only what is synced to disk, so that a number that was sent is never given to another record.

    Args:
        journal: whose records.
        taker: who gets them; None: all of them go to ``otherwise``.
        otherwise: who gets those that ``taker`` does not want or refuses.
    """

    def __init__(self, journal: Journal, taker: UsageTaker | None, otherwise: UsageTaker) -> None:
        self.more = asyncio.Event()
        """To be set when there may be something to send."""
        self._journal = journal
        self._taker = taker
        self._otherwise = otherwise
        self._problem: str | None = None
        self._refused_for: str | None = None
        self._at_once = _AT_ONCE

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
        batch = ledger.batch(self._journal.durable, self._at_once)
        if not batch.records:
            return False
        try:
            await self._hand_over(batch)
        except UsageRefusedError:
            # Bisects to the refused record.
            self._at_once = len(batch.records) // 2
            return True
        except Exception as error:  # noqa: BLE001 - whatever happens here, the games go on
            if not isinstance(error, UsageDelayedError):
                _log.exception("handing usage records over failed")
                error = UsageDelayedError(f"a defect ({type(error).__name__}), see the log", _PAUSE_SECONDS)
            if str(error) != self._problem:
                _log.warning("usage records are not taken; they are kept", problem=str(error))
            self._problem = str(error)
            await asyncio.sleep(error.pause_seconds)
            return True
        if self._problem is not None:
            _log.info("usage records are taken again")
            self._problem = None
        self._at_once = min(2 * self._at_once, _AT_ONCE)
        ledger.acknowledge(batch.records[-1].sequence)
        return True

    async def _hand_over(self, batch: UsageBatch) -> None:
        try:
            await (self._taker or self._otherwise).take(batch)
        except UsageUnwantedError:
            await self._otherwise.take(batch)
        except UsageRefusedError as error:
            if len(batch.records) > 1:
                raise
            await self._otherwise.take(batch)
            self._journal.ledger.refused += 1
            if str(error) != self._refused_for:
                session_id = batch.records[0].session_id
                _log.error("a usage record was refused, and put into the file", session=session_id, why=str(error))
            self._refused_for = str(error)
