"""The usage journal on SQLite, as far as it takes to measure it beside the one that relayd has: see `bench.journal`."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from relayd.core.usage import Counts, Kind, Ledger, Reason, UsageRecord

NAME = "usage.sqlite3"
_AT_ONCE = 500
_COLUMNS = (
    "sequence, span, session_id, kind, reason, began_at, from_at, to_at,"
    " delta_to_host_datagrams, delta_to_host_bytes, delta_to_player_datagrams, delta_to_player_bytes,"
    " total_to_host_datagrams, total_to_host_bytes, total_to_player_datagrams, total_to_player_bytes"
)
_VALUES = ", ".join("?" * 16)
_Row = tuple[int | float | str | None, ...]


class SqliteJournal:
    """Transactions into a write-ahead log on the loop; checkpoints, which sync, in a thread on a connection of its own.

    Args:
        directory: where its files are.
        synchronous: of the connection that writes. NORMAL is the least that SQLite calls safe after a loss of power.
    """

    def __init__(self, directory: Path, synchronous: str = "NORMAL") -> None:
        path = directory / NAME
        self.ledger = Ledger("bench")
        self._writer = _connection(path)
        self._checkpointer = _connection(path)
        for statement in (
            "PRAGMA journal_mode = WAL",
            f"PRAGMA synchronous = {synchronous}",
            "PRAGMA wal_autocheckpoint = 0",
            f"CREATE TABLE IF NOT EXISTS unsent ({_COLUMNS}, PRIMARY KEY (sequence))",
            f"CREATE TABLE IF NOT EXISTS spans ({_COLUMNS}, PRIMARY KEY (span)) WITHOUT ROWID",
        ):
            self._writer.execute(statement)
        self._checkpointer.execute("PRAGMA synchronous = FULL")

    async def write(self) -> None:
        """Some of what is new in the ledger, and what was taken leaves."""
        new = list(islice(self.ledger.unwritten.values(), _AT_ONCE))
        rows = [_row(record) for record in new]
        ended = [(record.span,) for record in new if record.kind is Kind.STOP]
        with self._writer:
            self._writer.execute("BEGIN")
            self._writer.executemany(f"INSERT INTO unsent VALUES ({_VALUES})", rows)
            self._writer.executemany(f"INSERT OR REPLACE INTO spans VALUES ({_VALUES})", rows)
            self._writer.executemany("DELETE FROM spans WHERE span = ?", ended)
            self._writer.execute(
                "DELETE FROM unsent WHERE sequence IN (SELECT sequence FROM unsent WHERE sequence <= ? LIMIT ?)",
                (self.ledger.acknowledged, _AT_ONCE),
            )
        for record in new:
            del self.ledger.unwritten[record.sequence]

    async def write_all(self) -> None:
        """All of it, bit by bit."""
        while self.ledger.unwritten:
            await self.write()
            await asyncio.sleep(0)

    async def sync(self) -> None:
        """Has the disk take it."""
        await asyncio.to_thread(self._checkpointer.execute, "PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Lets go of the files."""
        self._checkpointer.close()
        self._writer.close()


def read(path: Path) -> list[UsageRecord]:
    """The unsent records of a file, up to the first that SQLite cannot give.

    Raises:
        sqlite3.DatabaseError: it is no database.
    """
    connection = _connection(path)
    try:
        return list(_readable(connection.execute(f"SELECT {_COLUMNS} FROM unsent ORDER BY sequence")))
    finally:
        connection.close()


def _readable(rows: sqlite3.Cursor) -> Iterator[UsageRecord]:
    with suppress(sqlite3.DatabaseError, ValueError, TypeError):
        for row in rows:
            yield _record(row)


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _row(record: UsageRecord) -> _Row:
    return (*record[:3], record.kind.value, record.reason and record.reason.value, *record[5:8], *record[8], *record[9])


def _record(row: tuple[Any, ...]) -> UsageRecord:
    sequence, span, session_id, kind, reason, began_at, from_at, to_at, *counts = row
    kind, reason = Kind(kind), None if reason is None else Reason(reason)
    delta, total = Counts(*counts[:4]), Counts(*counts[4:])
    return UsageRecord(sequence, span, session_id, kind, reason, began_at, from_at, to_at, delta, total)
