"""Whether to accept a state that suddenly names far fewer sessions: an emptied file must not end every game."""


class ShrinkGuard:
    """Refuses a state that lacks more than half of the sessions until it has stayed so for ``hold_seconds``."""

    def __init__(self, hold_seconds: float) -> None:
        self._hold_seconds = hold_seconds
        self._suspicious_since: float | None = None

    def seconds_left(self, present: int, missing: int, now: float) -> float:
        """How much longer to wait before this state may be accepted; 0 when it may be now.

        Args:
            present: number of sessions in the table.
            missing: how many of those the new state no longer names.
            now: seconds, from a clock that never goes back.
        """
        if missing * 2 <= present:
            self._suspicious_since = None
            return 0.0
        if self._suspicious_since is None:
            self._suspicious_since = now
        left = self._suspicious_since + self._hold_seconds - now
        if left > 0:
            return left
        self._suspicious_since = None
        return 0.0
