"""The tables, in types that SQLite and PostgreSQL both have. `migrations/` brings a database to them, step by step."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    literal_column,
)

INITIALIZING = "Initializing"
READY = "Ready"
ERROR = "Error"

# SQLite counts a column up only if it is called INTEGER (sqlite.org/autoinc.html).
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

# One row. `epoch` names the history of this store; `revision` counts every change of any session; `removed_floor` is
# the greatest revision that has been dropped from `removed`.
store = Table(
    "store",
    metadata,
    Column("epoch", Text, primary_key=True),
    Column("webhook_secret", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("removed_floor", BigInteger, nullable=False),
    Column("session_count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Each start of the control plane, and the revision that it began to count from.
starts = Table(
    "starts",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("began", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# `revision` is the newest change of its sessions.
nodes = Table(
    "nodes",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("ip", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("server_port", Integer, nullable=False),
    Column("client_port", Integer, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("capacity", BigInteger, nullable=False),
    Column("load", BigInteger, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("heard_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("own_addresses", JSON, nullable=False, server_default="[]"),
    Column("own_ports", JSON, nullable=False, server_default="[]"),
    sqlite_with_rowid=False,
)

# `created_revision` is the one a relay must have applied for the session to be ready.
sessions = Table(
    "sessions",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("session_id", Text, nullable=False, unique=True),
    Column("token", BigInteger, unique=True),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("node_id", Text, ForeignKey("nodes.node_id")),
    Column("created_revision", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("webhook_url", Text),
    sqlite_autoincrement=True,
)

# Partial indexes are used only where the query has the same constant, not a parameter that happens to be equal
# (sqlite.org/partialindex.html, 3).
waiting = sessions.c.status == literal_column(f"'{INITIALIZING}'")
failed = sessions.c.status == literal_column(f"'{ERROR}'")

Index("sessions_by_node", sessions.c.node_id, sessions.c.session_id)
Index("sessions_by_change", sessions.c.node_id, sessions.c.revision)
Index(
    "sessions_waiting",
    sessions.c.node_id,
    sessions.c.created_revision,
    sqlite_where=waiting,
    postgresql_where=waiting,
)
Index("sessions_failed", sessions.c.created_at, sqlite_where=failed, postgresql_where=failed)

# No uniqueness over `ip`: two players behind one NAT may be named at creation.
users = Table(
    "users",
    metadata,
    Column("session_id", Text, ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("token", BigInteger, nullable=False, unique=True),
    Column("ip", Text, nullable=False),
    Column("latitude", Double),
    Column("longitude", Double),
    sqlite_with_rowid=False,
)

# The log of deletions that deltas are made of.
removed = Table(
    "removed",
    metadata,
    Column("revision", _NUMBER, primary_key=True, autoincrement=False),
    Column("node_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("removed_at", Double, nullable=False),
    Index("removed_by_node", "node_id", "revision"),
)

keys = Table(
    "keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("node", Text),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("session_id", Text, ForeignKey("sessions.session_id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("host", Text, nullable=False, server_default=""),
    Index("outbox_by_due", "due_at"),
    Index("outbox_by_session", "session_id"),
    sqlite_with_rowid=False,
)

# The most that each span reported. A span is of the relay that reported it first: its name alone is unique, and a
# relay may be renamed.
usage_spans = Table(
    "usage_spans",
    metadata,
    Column("span", Text, primary_key=True),
    Column("session_id", Text, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("to_at", Double, nullable=False),
    Column("reason", Text),
    Column("to_host_datagrams", BigInteger, nullable=False),
    Column("to_host_bytes", BigInteger, nullable=False),
    Column("to_player_datagrams", BigInteger, nullable=False),
    Column("to_player_bytes", BigInteger, nullable=False),
    Index("usage_spans_by_session", "session_id", "node_id"),
    Index("usage_spans_by_time", "to_at"),
    sqlite_with_rowid=False,
)

# What the records of a span added to that, by the time they went up to.
usage = Table(
    "usage",
    metadata,
    Column("span", Text, primary_key=True),
    Column("to_at", Double, primary_key=True),
    Column("from_at", Double, nullable=False),
    Column("to_host_datagrams", BigInteger, nullable=False),
    Column("to_host_bytes", BigInteger, nullable=False),
    Column("to_player_datagrams", BigInteger, nullable=False),
    Column("to_player_bytes", BigInteger, nullable=False),
    Index("usage_by_time", "to_at"),
    sqlite_with_rowid=False,
)
