"""A source that follows a control plane, between a link and a table in memory."""

from relayd.core.source_status import Load
from relayd.session_source.control_plane.follow import ControlPlaneSource
from relayd.session_source.control_plane.keeper import Keeper
from tests.support.links import FakeLink, FakeSessionTable
from tests.support.virtual_loop import Running

POLL_SECONDS = 2.0
HOLD_SECONDS = 20.0
IDLE = Load(bound_users=0, draining=False)


class World:
    """A source between a control plane and a table, all in memory. To be made on the loop."""

    def __init__(
        self,
        link: FakeLink | None = None,
        keeper: Keeper | None = None,
        load: Load = IDLE,
        table: FakeSessionTable | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.link = link or FakeLink()
        self.table = table or FakeSessionTable()
        self.load = load
        self.source = ControlPlaneSource(
            link=self.link,
            table=self.table,
            keeper=keeper,
            poll_interval=poll_seconds,
            shrink_hold=HOLD_SECONDS,
            load=lambda: self.load,
        )
        self.status = self.source.status

    def running(self) -> Running:
        return Running(self.source.run())

    def ids(self) -> set[str]:
        return set(self.table.session_ids())
