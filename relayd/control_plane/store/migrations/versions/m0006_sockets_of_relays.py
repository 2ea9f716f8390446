"""Where else the sockets of a relay are, for those who take nothing from there."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Relays say it with their next heartbeat."""
    for name in ("own_addresses", "own_ports"):
        op.add_column("nodes", sa.Column(name, sa.JSON, nullable=False, server_default="[]"))
