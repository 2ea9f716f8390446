"""The tables, and how a database file is taken into use."""

import secrets
import sqlite3
from pathlib import Path

from relayd.control_plane.errors import StoreUnusableError

VERSION = 2
"""Of the tables below, kept in the file as PRAGMA user_version."""

# revision counts every change of any session; a relay is told the newest of its own. created_revision is the one a
# relay must have applied for the session to be ready. removed is the log of deletions that deltas are made of.
# users has no uniqueness over ip: two players behind one NAT may be named at creation. removed_floor is the greatest
# revision that has been dropped from that log.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY,
    ip TEXT NOT NULL, host TEXT NOT NULL, server_port INTEGER NOT NULL, client_port INTEGER NOT NULL,
    attributes TEXT NOT NULL, latitude REAL, longitude REAL,
    capacity INTEGER NOT NULL, load INTEGER NOT NULL, draining INTEGER NOT NULL,
    heard_at REAL NOT NULL,
    revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL UNIQUE,
    token INTEGER UNIQUE,
    status TEXT NOT NULL,
    error TEXT,
    node_id TEXT REFERENCES nodes (node_id),
    created_revision INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at REAL NOT NULL,
    webhook_url TEXT
);
CREATE INDEX sessions_by_node ON sessions (node_id, session_id);
CREATE INDEX sessions_by_change ON sessions (node_id, revision);
CREATE INDEX sessions_waiting ON sessions (node_id, created_revision) WHERE status = 'Initializing';
CREATE INDEX sessions_failed ON sessions (created_at) WHERE status = 'Error';
CREATE TABLE users (
    session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    token INTEGER NOT NULL UNIQUE,
    ip TEXT NOT NULL, latitude REAL, longitude REAL,
    PRIMARY KEY (session_id, position)
) WITHOUT ROWID;
CREATE TABLE removed (
    revision INTEGER PRIMARY KEY, node_id TEXT NOT NULL, session_id TEXT NOT NULL, removed_at REAL NOT NULL
);
CREATE INDEX removed_by_node ON removed (node_id, revision);
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, scopes TEXT NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE outbox (
    webhook_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
    url TEXT NOT NULL, body TEXT NOT NULL, attempts INTEGER NOT NULL, due_at REAL NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX outbox_by_due ON outbox (due_at);
CREATE INDEX outbox_by_session ON outbox (session_id);
"""

# usage_spans has the most that each span reported, and usage what its records added to that, by the time they went up
# to. A span is of the relay that reported it first: its name alone is unique, and a relay may be renamed.
_USAGE_TABLES = """
CREATE TABLE usage_spans (
    span TEXT PRIMARY KEY,
    session_id TEXT NOT NULL, node_id TEXT NOT NULL,
    began_at REAL NOT NULL, to_at REAL NOT NULL,
    reason TEXT,
    to_host_datagrams INTEGER NOT NULL, to_host_bytes INTEGER NOT NULL,
    to_player_datagrams INTEGER NOT NULL, to_player_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX usage_spans_by_session ON usage_spans (session_id, node_id);
CREATE INDEX usage_spans_by_time ON usage_spans (to_at);
CREATE TABLE usage (
    span TEXT NOT NULL, to_at REAL NOT NULL, from_at REAL NOT NULL,
    to_host_datagrams INTEGER NOT NULL, to_host_bytes INTEGER NOT NULL,
    to_player_datagrams INTEGER NOT NULL, to_player_bytes INTEGER NOT NULL,
    PRIMARY KEY (span, to_at)
) WITHOUT ROWID;
CREATE INDEX usage_by_time ON usage (to_at);
"""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Makes the tables in a new database, and checks those of one that is there.

    Raises:
        StoreUnusableError: it cannot be opened, is something else, or was written by a newer relayd.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreUnusableError(
                f"{path}: was written by a newer relayd (schema {version}, this one knows {VERSION}); install that one"
                " again or name another [api] database"
            )
        if version == 0:
            _make(connection)
        if version < VERSION:
            # What came with version 2; a new database has none of it either.
            _execute(connection, _USAGE_TABLES)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreUnusableError(f"{path}: cannot be used as [api] database: {error}") from None


def protect(path: str) -> None:
    """Makes a new database file readable by its owner alone, since it holds session tokens.

    SQLite gives its WAL the permissions of the database.

    Raises:
        StoreUnusableError: the file cannot be made.
    """
    try:
        Path(path).touch(mode=0o600)
    except OSError as error:
        raise StoreUnusableError(f"{path}: cannot be used as [api] database: {error.strerror}") from None


def _make(connection: sqlite3.Connection) -> None:
    _execute(connection, _TABLES)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [
            ("epoch", secrets.token_hex(8)),
            ("revision", 0),
            ("removed_floor", 0),
            ("session_count", 0),
            ("webhook_secret", secrets.token_hex(32)),
        ],
    )


def _execute(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)
