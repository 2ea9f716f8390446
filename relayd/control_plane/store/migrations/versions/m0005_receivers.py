"""The host that a webhook goes to, by which calls under way are counted."""

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Reads it from the calls that wait."""
    op.add_column("outbox", sa.Column("host", sa.Text, nullable=False, server_default=""))
    outbox = sa.table("outbox", sa.column("webhook_id"), sa.column("url"), sa.column("host"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(outbox.c.webhook_id, outbox.c.url)).all():
        one = sa.update(outbox).where(outbox.c.webhook_id == row.webhook_id)
        connection.execute(one.values(host=urlsplit(row.url).hostname or ""))
