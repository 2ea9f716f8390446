"""Sessions that somebody plays in and that the control plane lost: its store is an older copy of what it was.

The relay is the only one who still has them. It ends none before the control plane has said whether it takes them back.
"""

from collections.abc import Iterable, Iterator

from relayd.core.desired import SessionSpec, Snapshot
from relayd.core.session import Session
from relayd.event_loop.pacing import in_slices
from relayd.session_source import spec_of

LIMIT_SECONDS = 300.0
"""How long a control plane that answers may fail to say so; then what it has counts."""
_MOST_SESSIONS_AT_ONCE = 200
_MOST_USERS_AT_ONCE = 10_000
"""In one heartbeat: under 1 MB. A session with more goes alone."""


class Patience:
    """Whether the control plane is still given time."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_left(self, went_back: bool, now: float) -> bool:
        """Whether to hand back, after a heartbeat that was answered so; `now` in seconds."""
        if not went_back:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since < LIMIT_SECONDS


async def lost_in_play(sessions: Iterable[Session], whole: Snapshot) -> list[SessionSpec]:
    """The sessions with somebody in them who is not in the whole state: it lacks the session, or the user."""
    found: list[SessionSpec] = []
    async for session in in_slices(sessions):
        if session.bound:
            named = whole.sessions.get(session.session_id)
            same = named is not None and named.token == session.token
            users = {user.token for user in named.users} if named is not None and same else set()
            if any(binding.user.token not in users for binding in session.bindings()):
                found.append(spec_of(session))
    return found


def batches(sessions: Iterable[SessionSpec]) -> Iterator[tuple[SessionSpec, ...]]:
    """The sessions, as many at a time as one heartbeat takes."""
    batch: list[SessionSpec] = []
    users = 0
    for spec in sessions:
        full = len(batch) == _MOST_SESSIONS_AT_ONCE or users + len(spec.users) > _MOST_USERS_AT_ONCE
        if batch and full:
            yield tuple(batch)
            batch, users = [], 0
        batch.append(spec)
        users += len(spec.users)
    if batch:
        yield tuple(batch)
