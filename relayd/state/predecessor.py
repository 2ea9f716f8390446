"""What the predecessor left to this relay, and what this one leaves to its successor."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from relayd.core.counters import Counters
from relayd.core.source_status import SourceStatus
from relayd.core.table import Table
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.forwarding.sockets import BoundSocket
from relayd.state.copier import Copier
from relayd.state.memory import StateMemory
from relayd.state.records import Records, Spans
from relayd.state.restoration import Restoration

_LONGEST_WAIT_SECONDS = 5.0
"""How long to wait for the session source before datagrams are read without it: bound players then see Checking.

Half of what a KCP client waits before it gives up: the start before and what comes after have to fit in as well.
"""
_SESSIONS_WITHIN_SECONDS = 1.0
"""The same where no bindings were found, but datagrams may wait in sockets that were kept.

Also the wait for bindings in sessions that are newer than the last good ones, with which a relay starts.
"""
_LOOK_SECONDS = 0.005


class Predecessor:
    """Opened before anything is counted or bound.

    Args:
        directory: where the state file is; None to keep nothing.
        in_memory: where it is instead, with a copy in the directory; None for no such place.
        sockets: the relay's, by which bindings are numbered.
        table: gets its bindings back as its users are authorized.
        counters: go on where they were.
        now: seconds, on the clock of the table.
        user_timeout_seconds: a binding is not restored if no relay was running for longer.
        source: how the session source stands.
        spans: what records usage; None for nothing.
    """

    def __init__(
        self,
        *,
        directory: Path | None,
        in_memory: Path | None = None,
        sockets: Sequence[BoundSocket],
        table: Table,
        counters: Counters,
        now: Callable[[], float],
        user_timeout_seconds: float,
        source: SourceStatus,
        spans: Spans | None,
    ) -> None:
        self._source = source
        addresses = repr([one.socket.getsockname()[:2] for one in sockets]).encode()
        state = StateMemory(directory, int.from_bytes(hashlib.sha256(addresses).digest()[:8], "little"), in_memory)
        self._copies = state.copies
        self._copier: Copier | None = None
        self.records = Records(state, now, spans=spans)
        counters.continue_in(self.records.counters_memory())
        self.records.follow(table.followers)
        with many_new_objects():
            self.restoration = Restoration(
                state=state,
                records=self.records,
                table=table,
                endpoints=[one.endpoint for one in sockets],
                counters=counters,
                now=now,
                longest_silence_seconds=user_timeout_seconds,
            )

    def begin_to_copy(self) -> None:
        """Has the copy of the state kept up to date from now on, where there is to be one."""
        if self._copies is not None:
            self._copier = Copier(*self._copies)

    async def leave(self) -> None:
        """Nothing is counted any more: leaves what there is to the successor, in a bounded time."""
        self.records.beat()
        if self._copier is not None:
            await self._copier.finish()
        self.records.close()

    async def until_loaded(
        self, loaded: asyncio.Event, *, kept_sockets: bool, tasks: Sequence[asyncio.Task[None]]
    ) -> None:
        """If somebody was bound before, waits until there are sessions; for a bounded time, while all tasks run.

        Datagrams wait in the sockets meanwhile, so that no bound player is told that its session is unknown.

        Args:
            loaded: set once there are sessions.
            kept_sockets: whether the sockets are those of the process before.
            tasks: any of them may end the wait.
        """
        if not self.restoration.bound and not kept_sockets:
            return
        longest_seconds = _LONGEST_WAIT_SECONDS if self.restoration.bound else _SESSIONS_WITHIN_SECONDS
        await self._wait_for(loaded.is_set, longest_seconds, tasks)
        if loaded.is_set():
            await self._wait_for(self._all_are_named, _SESSIONS_WITHIN_SECONDS, tasks)

    async def _wait_for(self, it: Callable[[], bool], seconds: float, tasks: Sequence[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Polls: not everything that is waited for has an event.
        while not it() and loop.time() < deadline and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    def _all_are_named(self) -> bool:
        """Whether nobody is missing who was bound, or is known to be gone."""
        return self._source.followed or not self.restoration.unnamed

    async def give_up_the_rest(self) -> None:
        """Discards what was bound before and is named by no session any more."""
        if self.restoration:
            async for _ in in_slices(self.restoration.finishing()):
                pass
