"""A database off the event loop: one thread that writes, one that reads, one that reads what may take seconds.

Writes that wait together share one transaction, each in its own savepoint: a commit waits for the disk, and 50 clients
then wait for one commit instead of 50.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError

from relayd.control_plane.background import report
from relayd.control_plane.errors import StoreUnavailableError

T = TypeVar("T")
Work = Callable[[Connection], T]

_WRITES_TOGETHER = 256
"""At most: bounds how long the first waits for the last."""


class _Job:
    """One piece of work and who waits for it."""

    def __init__(self, work: Work[Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.work = work

    def settle(self, result: Any, error: BaseException | None) -> None:
        # A loop that has been closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Worker:
    """A thread with a connection of its own and a queue of work.

    Args:
        name: of the thread.
        connection: its own; closed with it.
        writes: whether it does; then a transaction is shared by what waits, and else each piece of work has its own.
        check: looks before each transaction whether the database is still there. Raises OSError.
        around: entered for each piece of work.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        *,
        writes: bool,
        check: Callable[[], None],
        around: Callable[[Connection], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
    ) -> None:
        self._most = _WRITES_TOGETHER if writes else 1
        self._attempt = self._savepoint if writes else self._work
        self._check = check
        self._around = around
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = connection
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Work[T]) -> T:
        """Does it in the thread."""
        if self._closed:
            raise StoreUnavailableError("The session store is closed, since the control plane is stopping.")
        job = _Job(work)
        self._jobs.put(job)
        result: T = await job.future
        return result

    def close(self) -> None:
        """Finishes what is queued, then closes the connection. Blocks until done."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            while len(jobs) < self._most and not self._jobs.empty():
                jobs.append(self._jobs.get())
            self._transaction([job for job in jobs if job is not None])
            if None in jobs:
                return

    def _transaction(self, jobs: list[_Job]) -> None:
        """Runs all in one transaction; only once it is committed does anybody hear of success."""
        done: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._check()
            with self._connection.begin():
                done = [(job, *self._attempt(job.work)) for job in jobs]
        except Exception as error:  # noqa: BLE001 - without this thread every request would wait for ever
            # After a COMMIT that failed SQLAlchemy holds the transaction for over; SQLite may not.
            with contextlib.suppress(Exception):
                self._connection.connection.rollback()
            if not isinstance(error, DBAPIError | OSError):
                report("store failed", error)
            unavailable = StoreUnavailableError(
                f"The session store cannot be used now ({one_line(error)}); try again in a moment."
            )
            done = [(job, None, unavailable) for job in jobs]
        for job, result, error_or_none in done:
            job.settle(result, error_or_none)

    def _savepoint(self, work: Work[Any]) -> tuple[Any, BaseException | None]:
        """Does a piece of work that leaves nothing behind when it fails."""
        sql = self._connection.exec_driver_sql
        for last in (False, False, True):
            sql("SAVEPOINT work")
            result, error = self._work(work)
            if error is not None:
                sql("ROLLBACK TO SAVEPOINT work")
            sql("RELEASE SAVEPOINT work")
            # Names and tokens are drawn at random: one that is taken is drawn again.
            if last or not isinstance(error, IntegrityError):
                break
        return result, error

    def _work(self, work: Work[Any]) -> tuple[Any, BaseException | None]:
        try:
            with self._around(self._connection):
                return work(self._connection), None
        except Exception as raised:
            if type(raised) in (OperationalError, DatabaseError):
                raise  # the disk, the lock, a damaged file: nothing that only this piece of work suffers from
            return None, raised


class Database:
    """Work for the database, awaited.

    Args:
        writer: does one transaction after the other.
        reader: for short questions.
        slow_reader: for what may take seconds: neither keys nor heartbeats wait for it.
    """

    def __init__(self, *, writer: Worker, reader: Worker, slow_reader: Worker) -> None:
        self._writer, self._reader, self._slow_reader = writer, reader, slow_reader

    async def write(self, work: Work[T]) -> T:
        """Does the work in a transaction; when it raises, nothing of it stays.

        Raises:
            StoreUnavailableError: the database is gone, full, or locked for too long.
        """
        return await self._writer.do(work)

    async def read(self, work: Work[T]) -> T:
        """Does the work on one consistent state, which contains every write that was answered before.

        Raises:
            StoreUnavailableError: the database is gone, or locked for too long.
        """
        return await self._reader.do(work)

    async def read_slowly(self, work: Work[T]) -> T:
        """As `read`, for what may take seconds.

        Raises:
            StoreUnavailableError: the database is gone, or locked for too long.
            TooSlowError: it takes longer than is allowed.
        """
        return await self._slow_reader.do(work)

    async def close(self) -> None:
        """Ends all threads once they have done what was asked for."""
        loop = asyncio.get_running_loop()
        for worker in dict.fromkeys((self._slow_reader, self._reader, self._writer)):
            await loop.run_in_executor(None, worker.close)


def one_line(error: BaseException) -> str:
    """What went wrong, without the statement and its parameters that SQLAlchemy adds."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    return (text.splitlines() or [type(error).__name__])[0]
