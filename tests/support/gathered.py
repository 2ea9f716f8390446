"""Followers of a table that begin to follow it in an order of the test's choice, whatever order they were made in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from relayd.core.followers import ChangeFollower, Followers, Phase, UserFollower


class Gathered(Followers):
    """Subscriptions made by one part are gathered under its name."""

    def __init__(self) -> None:
        super().__init__()
        self._part = ""
        self._changes: dict[str, list[tuple[Phase, ChangeFollower]]] = {}
        self._users: dict[str, list[tuple[Phase, UserFollower]]] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Whoever subscribes meanwhile belongs to this part."""
        self._part = part
        yield
        self._part = ""

    def subscribe(self, phase: Phase, follower: ChangeFollower) -> None:
        self._changes.setdefault(self._part, []).append((phase, follower))

    def subscribe_to_users(self, phase: Phase, follower: UserFollower) -> None:
        self._users.setdefault(self._part, []).append((phase, follower))

    def begin(self, order: Sequence[str]) -> None:
        """Subscribes all of them, one part after another."""
        assert set(order) >= self._changes.keys() | self._users.keys()
        for part in order:
            for phase, follower in self._changes.get(part, ()):
                super().subscribe(phase, follower)
            for phase, user_follower in self._users.get(part, ()):
                super().subscribe_to_users(phase, user_follower)
