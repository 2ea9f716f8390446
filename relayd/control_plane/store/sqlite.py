"""The store in one SQLite file: how it is opened, prepared and watched.

It is written with synchronous=FULL rather than NORMAL because relays are told revisions: after a power cut the store
must not be older than what a relay has applied (https://sqlite.org/wal.html, "Performance Considerations").
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from relayd.control_plane.errors import StoreUnusableError, TooSlowError
from relayd.control_plane.store.database import Database, Worker, one_line
from relayd.control_plane.store.migration import HEAD, migrate, newer
from relayd.control_plane.store.sql_store import SqlStore

MEMORY = ":memory:"

BUSY_TIMEOUT = 2.0
"""Seconds a transaction waits for another process (the key commands) to release the database."""

LONGEST_SLOW_READ = 20.0
"""Seconds."""

_STEPS_BETWEEN_LOOKS = 100_000
"""Of SQLite's machine: some milliseconds."""

_STEPS = (None, "0001", "0002", "0003")
"""By PRAGMA user_version, which told the schema before there was Alembic. Step 0003 sets it for the last time, so that
programs from then refuse what they cannot read."""


class SqliteStore(SqlStore):
    """One control plane a file; key commands may share it."""

    def __init__(self, path: str, *, token_bits: int = 31) -> None:
        """Opens the file, made if it is not there; `:memory:` keeps nothing.

        Args:
            path: of the file.
            token_bits: of the tokens that are drawn. Those drawn before stay, however long.

        Raises:
            StoreUnusableError: it cannot be opened, or belongs to a newer relayd.
        """
        super().__init__(open_database(path), token_bits=token_bits)


def open_database(path: str) -> Database:
    """Opens the file, and makes it first if it is not there.

    `:memory:` has but one connection, so that reads go the way of writes.

    Raises:
        StoreUnusableError: it cannot be opened, or belongs to a newer relayd.
    """
    try:
        if path == MEMORY:
            alone = Worker(
                "relayd-store", prepared_connection(path), writes=True, check=_nothing_to_check, around=_bounded
            )
            return Database(writer=alone, reader=alone, slow_reader=alone)
        # Its owner's alone, since it holds session tokens. SQLite gives its WAL the permissions of the database.
        Path(path).touch(mode=0o600)
        connection = prepared_connection(path)
        check = partial(_check_file, Path(path), Path(path).stat().st_ino)
        short, long = _connect(path, writes=False), _connect(path, writes=False)
        return Database(
            writer=Worker("relayd-store-writer", connection, writes=True, check=check),
            reader=Worker("relayd-store-reader", short, writes=False, check=check),
            slow_reader=Worker("relayd-store-slow-reader", long, writes=False, check=check, around=_bounded),
        )
    except StoreUnusableError as error:
        raise StoreUnusableError(f"{path}: {error}") from None
    except (DBAPIError, sqlite3.Error, OSError) as error:
        raise StoreUnusableError(f"{path}: cannot be used as [api] database: {one_line(error)}") from None


def _connect(path: str, *, writes: bool) -> Connection:
    """A connection whose transactions begin as one that writes, or does not."""

    def connect() -> sqlite3.Connection:
        # Without sqlite3's own ideas of when a transaction begins.
        return sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    connection = engine.connect()
    try:
        _pragma(connection, *(("synchronous = FULL", "foreign_keys = ON") if writes else ("query_only = ON",)))
    except BaseException:
        connection.close()
        raise
    return connection


def prepared_connection(path: str) -> Connection:
    """The writer's connection to a database with all tables."""
    connection = _connect(path, writes=True)
    try:
        _pragma(connection, "journal_mode = WAL")
        # Another process that opens it at the same moment waits here, and finds the tables made.
        with connection.begin():
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version >= len(_STEPS):
                raise newer(version, len(_STEPS) - 1)
            migrate(connection, stood_at=_STEPS[version])
    except BaseException:
        connection.close()
        raise
    return connection


def examine_database(path: str) -> None:
    """Looks whether there could be the store at that path. Makes no file, not even SQLite's own beside the database.

    Raises:
        StoreUnusableError: it cannot be opened or made, or belongs to a newer relayd.
    """
    if path == MEMORY:
        return
    file, folder = Path(path), Path(path).absolute().parent
    for one in (file, folder) if file.exists() else (folder,):
        if not os.access(one, os.W_OK):
            raise StoreUnusableError(f"{path}: {one} cannot be written to, or is not there")
    if not file.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            steps = connection.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
            step = max((number for (number,) in steps), default=HEAD)
    except sqlite3.Error as error:
        raise StoreUnusableError(f"{path}: cannot be used as [api] database: {error}") from None
    if version >= len(_STEPS) or step > HEAD:
        raise StoreUnusableError(f"{path}: {newer(step, HEAD)}")


def _pragma(connection: Connection, *pragmas: str) -> None:
    """Sets them, outside of a transaction: within one they do nothing."""
    cursor = connection.connection.cursor()
    try:
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()


def _nothing_to_check() -> None:
    """Nobody can take memory away."""


def _check_file(path: Path, inode: int) -> None:
    # SQLite goes on writing into a file that was deleted, and all of it is lost at the end.
    if path.stat().st_ino != inode:
        raise OSError("the database file was replaced")


@contextlib.contextmanager
def _bounded(connection: Connection) -> Iterator[None]:
    """Interrupts what takes longer than `LONGEST_SLOW_READ`."""
    database = cast("sqlite3.Connection", connection.connection.driver_connection)
    until = time.monotonic() + LONGEST_SLOW_READ
    database.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    except OperationalError:
        if time.monotonic() <= until:
            raise
        raise TooSlowError("That takes too long.") from None
    finally:
        database.set_progress_handler(None, 0)
