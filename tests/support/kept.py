"""Counts that nobody keeps."""

from relayd.core.counters import Traffic
from relayd.core.session import User


class NothingKept:
    go_on = False

    def account(self, user: User) -> None:
        """Nobody to tell."""

    def bring_back(self, user: User) -> None:
        """There is nothing."""

    def count_left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        """Nobody to tell."""
