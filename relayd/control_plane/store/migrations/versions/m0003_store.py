"""One row of named columns for what was a table of names and values, whose type depended on the name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Takes each value over. A relayd of before knows from SQLite's user_version that the database is beyond it."""
    meta = sa.table("meta", sa.column("name", sa.Text), sa.column("value"))
    store = op.create_table(
        "store",
        sa.Column("epoch", sa.Text, primary_key=True),
        sa.Column("webhook_secret", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("removed_floor", sa.BigInteger, nullable=False),
        sa.Column("session_count", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    values = {row.name: row.value for row in connection.execute(sa.select(meta.c.name, meta.c.value))}
    numbers = {name: int(values[name]) for name in ("revision", "removed_floor", "session_count")}
    texts = {name: str(values[name]) for name in ("epoch", "webhook_secret")}
    op.bulk_insert(store, [texts | numbers])
    op.drop_table("meta")
    if connection.dialect.name == "sqlite":
        op.execute("PRAGMA user_version = 3")
