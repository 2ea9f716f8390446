"""What is known of the users asked about: read from the table and its history, plain and immutable.

Times are seconds before now. Tokens are whole here; only `findings` puts them into words, and shortens them.
"""

from typing import NamedTuple

from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port


class RelayFacts(NamedTuple):
    """The relay itself."""

    server_port: int
    client_port: int
    """As sessions name them."""
    limits: Limits
    loaded: bool = True
    """Whether it has ever had sessions from its source."""
    draining: bool = False
    source_problem: str | None = None
    """Why the session source is not followed; None while it is."""
    source_age_seconds: float = 0.0
    unknown_by_kernel: int = 0
    """Datagrams of unknown users that the kernel dropped over its rate, without a note of who sent them."""
    losses: tuple["LossFacts", ...] = ()
    """Of interfaces of the fast path; the datagrams are counted as forwarded or answered."""


class LossFacts(NamedTuple):
    """What an interface lost of what the kernel sent by it."""

    interface: str
    datagrams: int
    last_seconds_ago: float
    kernel_sends: bool
    """Whether the kernel still sends by it; else the sockets do."""
    way_out: str


class Attempt(NamedTuple):
    """Datagrams that were refused, all alike."""

    verdict: Verdict
    port: Port
    ip_address: str
    udp_port: int
    user_token: int | None
    session_token: int | None
    datagrams: int
    data_datagrams: int
    """How many of them were DATA and not PING."""
    first_seconds_ago: float
    last_seconds_ago: float
    session_id: str | None = None
    """The session with that token, also if it ended recently."""
    swapped_session_id: str | None = None
    """The session that lets them in once user and session token are swapped."""
    other_session_ids: tuple[str, ...] = ()
    """Sessions that have a user with that token."""


class Change(NamedTuple):
    """Something that happened to a session or one of its users."""

    session_id: str
    kind: EventKind
    user_token: int | None
    port: Port | None
    ip_address: str
    udp_port: int
    times: int
    last_seconds_ago: float


class BindingFacts(NamedTuple):
    """Where a user is bound."""

    port: Port
    ip_address: str
    udp_port: int
    bound_seconds_ago: float
    heard_seconds_ago: float
    conflicts_by_kernel: int = 0
    """Datagrams from other addresses that the kernel dropped."""


class UserFacts(NamedTuple):
    """A user of a session in the table."""

    session_id: str
    token: int
    allowed_ip: str | None
    bindings: tuple[BindingFacts, ...]
    datagrams_to_host: int = 0
    datagrams_to_player: int = 0
    lost_without_host: int = 0
    """DATA it sent recently as a player while there was no host."""
    lost_to_nobody: int = 0
    """DATA it sent recently as the host to connection ids that no player has."""

    def on(self, port: Port) -> BindingFacts | None:
        """Its binding on that port."""
        return next((binding for binding in self.bindings if binding.port is port), None)


class SessionFacts(NamedTuple):
    """A session in the table."""

    session_id: str
    token: int
    users: tuple[UserFacts, ...]
    players_ever: int
    """How many players have been there, whether or not they still are."""
    unsent: int = 0
    """Datagrams that the kernel did not take."""

    @property
    def host(self) -> UserFacts | None:
        """The user bound on the server port."""
        return next((user for user in self.users if user.on(Port.SERVER) is not None), None)


class Situation(NamedTuple):
    """All that bears on one question."""

    relay: RelayFacts
    asked: str
    """What was asked about, in words, a token shortened."""
    sessions: tuple[SessionFacts, ...] = ()
    """Those that are in the table and that the question touches."""
    users: tuple[UserFacts, ...] = ()
    """Those in question; their sessions are all in `sessions`."""
    attempts: tuple[Attempt, ...] = ()
    changes: tuple[Change, ...] = ()

    def session(self, session_id: str | None) -> SessionFacts | None:
        """A session of these by its id."""
        return next((session for session in self.sessions if session.session_id == session_id), None)

    def user(self, session_id: str | None, token: int | None) -> UserFacts | None:
        """A user of one of these sessions."""
        session = self.session(session_id)
        return next((user for user in session.users if user.token == token), None) if session else None
