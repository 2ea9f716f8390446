"""The relay that a key is bound to, if it is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Those there are stay keys of all relays."""
    op.add_column("keys", sa.Column("node", sa.Text))
