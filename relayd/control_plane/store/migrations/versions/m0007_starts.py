"""Where the control plane began to count on, by which a store that went back is told from one that goes on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """What was told before the first of these goes by the name of the store alone."""
    op.create_table(
        "starts",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("began", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
