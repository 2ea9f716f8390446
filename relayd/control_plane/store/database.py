"""SQLite off the event loop: one thread that writes, one that reads, one that reads what may take seconds.

Writes that wait together share one transaction, each in its own savepoint: with synchronous=FULL a commit waits for the
disk, and 50 clients then wait for one commit instead of 50. FULL rather than NORMAL because relays are told revisions:
after a power cut the store must not be older than what a relay has applied (https://sqlite.org/wal.html, "Performance
Considerations").
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from relayd.control_plane.background import report
from relayd.control_plane.errors import StoreUnavailableError
from relayd.control_plane.store.schema import prepare

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MEMORY = ":memory:"

BUSY_TIMEOUT = 2.0
"""Seconds a transaction waits for another process (the key commands) to release the database."""

_BATCH = 256
"""Writes in one transaction, at most: bounds how long the first waits for the last."""


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


class _Worker:
    """A thread with a connection of its own and a queue of work."""

    def __init__(self, name: str, path: str, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            if writes:
                prepare(self._connection, path)
            else:
                self._connection.execute("PRAGMA query_only = ON")
            self._inode = None if path == MEMORY else Path(path).stat().st_ino
        except BaseException:
            self._connection.close()
            raise
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Work[T]) -> T:
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
            while self._writes and len(jobs) < _BATCH and not self._jobs.empty():
                jobs.append(self._jobs.get())
            self._transaction([job for job in jobs if job is not None])
            if None in jobs:
                return

    def _transaction(self, jobs: list[_Job]) -> None:
        """Runs all in one transaction; only once it is committed does anybody hear of success."""
        done: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
            done = [(job, *self._savepoint(job.work)) for job in jobs]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - without this thread every request would wait for ever
            with contextlib.suppress(Exception):
                self._connection.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error | OSError):
                report("store failed", error)
            unavailable = StoreUnavailableError(
                f"The session store cannot be used now ({_one_line(error)}); try again in a moment."
            )
            done = [(job, None, unavailable) for job in jobs]
        for job, result, error_or_none in done:
            job.settle(result, error_or_none)

    def _savepoint(self, work: Work[Any]) -> tuple[Any, BaseException | None]:
        self._connection.execute("SAVEPOINT job")
        try:
            result, error = work(self._connection), None
        except Exception as raised:
            if type(raised) in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise  # the disk, the lock, a damaged file: nothing that only this piece of work suffers from
            result, error = None, raised
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")
        return result, error

    def _check_file(self) -> None:
        # SQLite goes on writing into a file that was deleted, and all of it is lost at the end.
        if self._inode is not None and Path(self._path).stat().st_ino != self._inode:
            raise OSError("the database file was replaced")


class Database:
    """Work for the database, awaited. `:memory:` has but one connection, so that reads go the way of writes."""

    def __init__(self, path: str) -> None:
        """Opens it, and makes it first if it is not there.

        Raises:
            StoreUnusableError: it cannot be opened, or belongs to a newer relayd.
        """
        self._writer = _Worker("relayd-store-writer", path, writes=True)
        if path == MEMORY:
            self._reader = self._student = self._writer
        else:
            self._reader = _Worker("relayd-store-reader", path, writes=False)
            self._student = _Worker("relayd-store-student", path, writes=False)

    async def write(self, work: Work[T]) -> T:
        """Does the work in a transaction; when it raises, nothing of it stays.

        Raises:
            StoreUnavailableError: the database is gone, full, or locked for longer than `BUSY_TIMEOUT`.
        """
        return await self._writer.do(work)

    async def read(self, work: Work[T]) -> T:
        """Does the work on one consistent state, which contains every write that was answered before.

        Raises:
            StoreUnavailableError: the database is gone or locked for longer than `BUSY_TIMEOUT`.
        """
        return await self._reader.do(work)

    async def study(self, work: Work[T]) -> T:
        """As `read`, for what may take seconds: neither keys nor heartbeats wait for it.

        Raises:
            StoreUnavailableError: the database is gone or locked for longer than `BUSY_TIMEOUT`.
        """
        return await self._student.do(work)

    async def close(self) -> None:
        """Ends all threads once they have done what was asked for."""
        loop = asyncio.get_running_loop()
        for worker in dict.fromkeys((self._student, self._reader, self._writer)):
            await loop.run_in_executor(None, worker.close)


def _one_line(error: BaseException) -> str:
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    return (text.splitlines() or [type(error).__name__])[0]
