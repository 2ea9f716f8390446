"""What sessions used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes its tables."""
    op.create_table(
        "usage_spans",
        sa.Column("span", sa.Text, primary_key=True),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("node_id", sa.Text, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("to_at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text),
        *_counts(),
        sqlite_with_rowid=False,
    )
    op.create_index("usage_spans_by_session", "usage_spans", ["session_id", "node_id"])
    op.create_index("usage_spans_by_time", "usage_spans", ["to_at"])
    op.create_table(
        "usage",
        sa.Column("span", sa.Text, primary_key=True),
        sa.Column("to_at", sa.Double, primary_key=True),
        sa.Column("from_at", sa.Double, nullable=False),
        *_counts(),
        sqlite_with_rowid=False,
    )
    op.create_index("usage_by_time", "usage", ["to_at"])


def _counts() -> list[sa.Column[int]]:
    names = ("to_host_datagrams", "to_host_bytes", "to_player_datagrams", "to_player_bytes")
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
