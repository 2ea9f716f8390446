"""The desired state as the control plane gives it: which sessions there are and who may take part.

Plain and immutable; a `Snapshot` is only ever whole and consistent, so applying one cannot fail half-way.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

MOST_SESSIONS = 1_000_000
MOST_USERS = 4_000_000
"""The most that a relay holds, in all of its sessions: some 1.6 GB. What a source says beyond that is refused."""


class InvalidSessionsError(ValueError):
    """Sessions that contradict each other; the text names both sides."""


class UserSpec(NamedTuple):
    """A user who may take part in a session."""

    token: int
    ip_address: str | None
    """In its canonical text form; only looked at with pin_ip."""


class SessionSpec(NamedTuple):
    """A session that should be in the table."""

    session_id: str
    token: int
    users: tuple[UserSpec, ...]


class Snapshot:
    """All sessions there should be, keyed by id, checked against each other as they are added."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionSpec] = {}
        self.users = 0
        """In all of the sessions."""
        self._id_of_token: dict[int, str] = {}

    @classmethod
    def of(cls, specs: Iterable[SessionSpec]) -> Self:
        """A snapshot of these sessions.

        Raises:
            InvalidSessionsError: two of them share an id or a token, or two users of one share a token.
        """
        snapshot = cls()
        for spec in specs:
            snapshot.add(spec)
        return snapshot

    def add(self, spec: SessionSpec) -> None:
        """Adds one more session.

        Raises:
            InvalidSessionsError: its id or token is there already, two of its users share one, or there are too many.
        """
        check_users(spec)
        self.users += len(spec.users)
        check_size(len(self.sessions) + 1, self.users)
        if spec.session_id in self.sessions:
            raise InvalidSessionsError(f"session_id {spec.session_id} appears twice")
        other = self._id_of_token.setdefault(spec.token, spec.session_id)
        if other != spec.session_id:
            raise InvalidSessionsError(
                f"sessions {other} and {spec.session_id} have the same authorization_token; give each session its own"
            )
        self.sessions[spec.session_id] = spec

    def __len__(self) -> int:
        return len(self.sessions)


class Change(NamedTuple):
    """Sessions to add or to bring up to date, and ids to remove; all others stay as they are."""

    upserts: tuple[SessionSpec, ...] = ()
    removals: tuple[str, ...] = ()


def check_size(sessions: int, users: int) -> None:
    """Raises InvalidSessionsError for more than a relay holds."""
    if sessions > MOST_SESSIONS or users > MOST_USERS:
        raise InvalidSessionsError(
            f"more than {MOST_SESSIONS:,} sessions or {MOST_USERS:,} users; spread them over several relays"
        )


def check_users(spec: SessionSpec) -> None:
    """Raises InvalidSessionsError when two users of the session share a token."""
    if len({user.token for user in spec.users}) != len(spec.users):
        raise InvalidSessionsError(f"two users of session {spec.session_id} have the same authorization_token")
