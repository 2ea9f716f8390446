"""Counts that nobody keeps."""

from relayd.core.session import User


class NothingKept:
    go_on = False

    def account(self, user: User) -> None:
        """Nobody to tell."""
