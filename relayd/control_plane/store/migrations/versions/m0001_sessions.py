"""Sessions, relays, keys and webhooks: the first tables there were."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes them, in a store with an epoch and a secret of its own."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    meta = op.create_table(
        "meta", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text), sqlite_with_rowid=False
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.Text, primary_key=True),
        sa.Column("ip", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("server_port", sa.Integer, nullable=False),
        sa.Column("client_port", sa.Integer, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sa.Column("capacity", sa.BigInteger, nullable=False),
        sa.Column("load", sa.BigInteger, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("heard_at", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sessions",
        sa.Column("number", number, primary_key=True),
        sa.Column("session_id", sa.Text, nullable=False, unique=True),
        sa.Column("token", sa.BigInteger, unique=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("node_id", sa.Text, sa.ForeignKey("nodes.node_id")),
        sa.Column("created_revision", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("sessions_by_node", "sessions", ["node_id", "session_id"])
    op.create_index("sessions_by_change", "sessions", ["node_id", "revision"])
    waiting, failed = sa.text("status = 'Initializing'"), sa.text("status = 'Error'")
    op.create_index(
        "sessions_waiting",
        "sessions",
        ["node_id", "created_revision"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("sessions_failed", "sessions", ["created_at"], sqlite_where=failed, postgresql_where=failed)
    op.create_table(
        "users",
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False, unique=True),
        sa.Column("ip", sa.Text, nullable=False),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "removed",
        sa.Column("revision", number, primary_key=True, autoincrement=False),
        sa.Column("node_id", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("removed_at", sa.Double, nullable=False),
    )
    op.create_index("removed_by_node", "removed", ["node_id", "revision"])
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("webhook_id", sa.Text, primary_key=True),
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.session_id", ondelete="CASCADE"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("outbox_by_due", "outbox", ["due_at"])
    op.create_index("outbox_by_session", "outbox", ["session_id"])
    op.bulk_insert(
        meta,
        [
            {"name": "epoch", "value": secrets.token_hex(8)},
            {"name": "revision", "value": "0"},
            {"name": "removed_floor", "value": "0"},
            {"name": "session_count", "value": "0"},
            {"name": "webhook_secret", "value": secrets.token_hex(32)},
        ],
    )
