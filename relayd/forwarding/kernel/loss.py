"""Judges whether an interface loses what the kernel program sends by it, and for how long the sockets serve it then.

What was handed to a driver may be lost without a word: a veth takes nothing from XDP while its far end runs none. Pure:
the times are given.
"""

_SECOND = 1.0
_WHILE_SECONDS = 10.0
"""For those who only PING, every 0.5 s: what a second has of them is not enough to say anything."""
_FEW_DATAGRAMS = 50
_FEW_PERCENT = 1
_FEWEST_OF_MOST = 3
"""Where half of all is lost, so few lost ones are enough to say so."""
_SOCKETS_CARRY = 100_000
"""Datagrams a second, on whatever was measured (`python -m bench throughput`)."""
FIRST_PAUSE_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 3600.0
_TRIAL_LOOKS = 30


class _Window:
    """What was sent in a time, and what was lost of it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.open(0.0)

    def open(self, now: float) -> None:
        """It begins."""
        self._began = now
        self.sent = self.lost = 0

    def add(self, sent: int, lost: int) -> None:
        """Counts so many."""
        self.sent += sent
        self.lost += lost

    def is_overloaded(self, now: float) -> bool:
        """Whether it delivers so many that others are lost for want of room: of which the sockets would have less."""
        return self.sent - self.lost > _SOCKETS_CARRY * (now - self._began)

    def is_over(self, now: float) -> bool:
        """Whether its time is over."""
        return now - self._began >= self._seconds


class LossWatch:
    """One interface.

    Args:
        now: seconds, on the clock of `note`.
    """

    def __init__(self, now: float) -> None:
        self.forwards = True
        """Whether the program is to send by it."""
        self.again_at = now
        """When it is tried again, while the sockets serve."""
        self._pause_seconds = 0.0
        self._leaving = False
        self._second, self._while = self._windows = _Window(_SECOND), _Window(_WHILE_SECONDS)
        self._begin(now)

    @property
    def on_trial(self) -> bool:
        """Whether it has yet to show that it loses nothing: then a look every second lets too much be lost."""
        return self.forwards and self._trial_looks > 0

    @property
    def counts(self) -> bool:
        """Whether what the interface loses may be the program's."""
        return self.forwards or self._leaving

    def note(self, now: float, sent: int, lost: int) -> bool:
        """Takes a look into account.

        Args:
            now: seconds.
            sent: what the program sent by it since the last look, with what was lost of it.
            lost: what was lost of it.

        Returns:
            Whether `forwards` is another than before.
        """
        if not self.forwards:
            self._leaving = False
            if now < self.again_at:
                return False
            self._begin(now)
            return True
        for window in self._windows:
            window.add(sent, lost)
        if sent and self._trial_looks:
            self._trial_looks -= 1
        if any(_most(one, now) for one in self._windows) or (
            self._second.is_over(now) and _too_many(self._second, now)
        ):
            self._leave(now)
            return True
        for window in self._windows:
            if window.is_over(now):
                window.open(now)
        return False

    def _begin(self, now: float) -> None:
        self.forwards = True
        self._since = now
        self._trial_looks = _TRIAL_LOOKS
        for window in self._windows:
            window.open(now)

    def _leave(self, now: float) -> None:
        # One that forwarded for as long as it had paused is as good as new.
        recovered = now - self._since >= self._pause_seconds
        self._pause_seconds = FIRST_PAUSE_SECONDS if recovered else min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        self.forwards, self._leaving = False, True
        self.again_at = now + self._pause_seconds


def _too_many(window: _Window, now: float) -> bool:
    few = window.lost <= _FEW_DATAGRAMS or 100 * window.lost <= _FEW_PERCENT * window.sent
    return not few and not window.is_overloaded(now)


def _most(window: _Window, now: float) -> bool:
    most = window.lost >= _FEWEST_OF_MOST and 2 * window.lost >= window.sent
    return most and not window.is_overloaded(now)
