"""Times that were noted by a clock which has been put back since."""

from sqlalchemy import Connection, bindparam, update

from relayd.control_plane.store import schema
from relayd.control_plane.store.contract import SILENT_AFTER

_nodes, _outbox = schema.nodes, schema.outbox
_HEARD = update(_nodes).where(_nodes.c.heard_at > bindparam("now")).values(heard_at=bindparam("silent"))
_DUE = (
    update(_outbox)
    .where(_outbox.c.created_at > bindparam("now"))
    .values(created_at=bindparam("now"), due_at=bindparam("now"))
)


def go_by(connection: Connection, now: float) -> None:
    """Leaves no such time: a relay heard in the future is silent until it is heard again, a call is due."""
    connection.execute(_HEARD, {"now": now, "silent": now - SILENT_AFTER - 1})
    connection.execute(_DUE, {"now": now})
