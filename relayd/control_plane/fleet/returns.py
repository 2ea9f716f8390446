"""What relays may hand back after the store went back, while this program runs."""

import re
from collections import Counter, OrderedDict

from relayd.control_plane.models import SESSION_ID_PATTERN
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.store.contract import Unwanted
from relayd.core.wire import MAX_TOKEN

MOST_RETURNED = 100_000
"""Sessions of one relay: no more can be played in at once, by two users each, than it has bound users."""

_MOST_MISSED = 10_000


class Returns:
    """Remembers what was asked to be taken out and was not there: it may be what the store lost."""

    def __init__(self) -> None:
        self._returned: Counter[str] = Counter()
        self._missed: OrderedDict[tuple[str, int | None], None] = OrderedDict()

    def missed(self, session_id: str, token: int | None = None) -> None:
        """Somebody wanted to take out a session, or a user of it. Of too many, the first is forgotten."""
        if not re.fullmatch(SESSION_ID_PATTERN, session_id, re.ASCII) or (token or 0) > MAX_TOKEN:
            # None that there ever was: a caller may send what is as long as a body.
            return
        self._missed[session_id, token] = None
        if len(self._missed) > _MOST_MISSED:
            self._missed.popitem(last=False)

    def allowed(self, node_id: str, heartbeat: Heartbeat) -> tuple[Heartbeat, Unwanted]:
        """The heartbeat with what the relay may still hand back, and what is not wanted of that."""
        if not heartbeat.handed_back:
            return heartbeat, ()
        within = heartbeat.handed_back[: MOST_RETURNED - self._returned[node_id]]
        return heartbeat.model_copy(update={"handed_back": within}), frozenset(self._missed)

    def returned(self, node_id: str, sessions: int) -> None:
        """So many were taken."""
        if sessions:
            self._returned[node_id] += sessions
