"""Sessions, their users, and where those are bound: the rows of the table.

Slots, and objects only once they are needed, keep a user that never came under 400 bytes.
"""

from collections.abc import Iterator

from relayd.core.counters import Traffic
from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.meter import TO_SILENT, Meter
from relayd.core.persistence import Persistence
from relayd.core.pings import Pings
from relayd.core.probation import Place, Probation
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, to_host_header

_MOST_FAMILIAR = 4
"""Addresses of a user that are remembered: at home, on a mobile network, and again after one of them changed."""
_MOST_REVOKED = 1024
"""Revoked users of one session that are remembered."""


class Binding:
    """Where a user is reached on one of the two ports."""

    __slots__ = (
        "address",
        "bound_at",
        "connection_undecided",
        "endpoint",
        "last_seen",
        "local",
        "meter",
        "pings",
        "probation",
        "to_silent",
        "traffic",
        "user",
    )

    def __init__(self, user: "User", endpoint: Endpoint, address: Address, now: float) -> None:
        self.user = user
        self.endpoint = endpoint
        self.address = address
        self.bound_at = now
        self.last_seen = now
        self.local: Local | None = None
        """The address of this host that its last datagram was sent to; None where its socket has only one."""
        self.connection_undecided = False
        """At a new address, and only its first DATA will tell whether the connection is a new one as well."""
        self.meter: Meter | None = None
        """What it may send; None for no bound."""
        self.probation: Probation | None = None
        """Of its last move; None where it never moved."""
        self.to_silent: Meter | None = None
        """What was sent to it while it was silent; None where it never was."""
        self.pings: Pings | None = None
        """Those the engine answered; None before the first."""
        if user.traffic is None:
            user.traffic = Traffic()
        self.traffic = user.traffic

    @property
    def place(self) -> Place:
        """Where it is bound now."""
        return Place(self.endpoint, self.address)

    def probation_at(self, now: float) -> Probation | None:
        """That of its last move, while it lasts."""
        return self.probation if self.probation is not None and now < self.probation.until else None

    @property
    def port(self) -> Port:
        """The port the user is bound on."""
        return self.endpoint.port

    def takes_while_silent(self, size_bytes: int, now: float) -> bool:
        """Whether a datagram of that size may be sent to a peer that has not been heard for `SILENT_SECONDS`."""
        if self.to_silent is None:
            self.to_silent = Meter(TO_SILENT)
        return self.to_silent.take(size_bytes, now)

    def heard_elsewhere(self, at: float, local: Local | None) -> None:
        """Takes over when another engine heard it last, in seconds, and at which address of this host, if it knows."""
        if at > self.last_seen:
            self.last_seen = at
            self.local = local or self.local

    def note_ping(self, now: float) -> None:
        """Counts a PING that the engine answers."""
        if self.pings is None:
            self.pings = Pings()
        self.pings.note(int(now * 1e9))

    def take_pings(self, heard_elsewhere: Pings) -> None:
        """Adds the PINGs that another engine heard while it served this binding."""
        if self.pings is None:
            if not heard_elsewhere.heard:
                return
            self.pings = Pings()
        self.pings.add(heard_elsewhere)
        # No engine hears both ends of the current interval.
        self.pings.last_ns = 0


class User:
    """Who may take part in a session. Bound on the server port, it is the session's host."""

    __slots__ = (
        "client_binding",
        "connection_id",
        "contested_until",
        "familiar",
        "ip_address",
        "persistence",
        "server_binding",
        "session",
        "to_host_header",
        "token",
        "traffic",
    )

    def __init__(self, session: "Session", token: int, ip_address: str | None) -> None:
        self.session = session
        self.token = token
        self.ip_address = ip_address
        self.server_binding: Binding | None = None
        self.client_binding: Binding | None = None
        self.connection_id = 0
        """How the host knows this player; 0 before its first binding."""
        self.to_host_header = b""
        self.traffic: Traffic | None = None
        """Counted over all of its bindings; None before the first."""
        self.familiar: tuple[str, ...] = ()
        """IP addresses that it was bound at, the last one first."""
        self.persistence: Persistence | None = None
        """Where it was held back while its session was searched for tokens; None where it was not."""

        self.contested_until = 0.0
        """Until when nobody may take its place over, for somebody else has its token."""

    def is_named(self, ip_address: str) -> bool:
        """Whether it was authorized with that address."""
        return ip_address == self.ip_address

    def was_at(self, ip_address: str) -> None:
        """Notes an address that it is bound at."""
        if self.familiar[:1] != (ip_address,):
            others = (one for one in self.familiar if one != ip_address)
            self.familiar = (ip_address, *others)[:_MOST_FAMILIAR]
        self.persistence = None

    def binding_on(self, port: Port) -> Binding | None:
        """The user's binding on that port."""
        return self.client_binding if port is Port.CLIENT else self.server_binding

    def set_connection_id(self, connection_id: int) -> None:
        """Gives the player this id; the one it had is retired, so that nothing sent to it arrives any more."""
        self.session.players.pop(self.connection_id, None)
        self.session.players[connection_id] = self
        self.connection_id = connection_id
        self.to_host_header = to_host_header(connection_id)


class Session:
    """A game: its users by token, its host, its players by connection id."""

    __slots__ = (
        "bound",
        "declared_host",
        "drops",
        "empty_since",
        "guesses_due",
        "host",
        "meter",
        "players",
        "revoked",
        "revoked_traffic",
        "session_id",
        "strangers",
        "token",
        "users",
        "waits_for_idle",
    )

    def __init__(self, session_id: str, token: int, now: float) -> None:
        self.session_id = session_id
        self.token = token
        self.users: dict[int, User] = {}
        self.host: Binding | None = None
        """The user bound on the server port."""
        self.declared_host: int | None = None
        """Token of the user who is meant to be the host."""
        self.players: dict[int, User] = {}
        """By connection id, for all who ever came; those who left have no binding."""
        self.bound = 0
        """Number of bindings."""
        self.empty_since = now
        """When the last user left; only meaningful while nobody is bound."""
        self.waits_for_idle = False
        """Whether the table's queue of idle sessions holds this one."""
        self.revoked_traffic: Traffic | None = None
        """Counts of users that are no longer in the session."""
        self.drops: dict[Verdict, int] | None = None
        self.meter: Meter | None = None
        """What all in it together may send; None for no bound."""
        self.guesses_due = 0.0
        """When the user tokens guessed in it would have been due, had they come evenly: see `Guesses`."""
        self.strangers = 0
        """Datagrams of it that no engine forwards, for whoever sent them is not bound where it is: see `Guesses`."""
        self.revoked: dict[int, float] | None = None
        """Tokens of users that were taken out of it → when that is forgotten; None before the first."""

    def remember_revoked(self, user_token: int, forgotten_at: float) -> None:
        """Notes a user that was taken out. Of too many, the first is forgotten."""
        if self.revoked is None:
            self.revoked = {}
        self.revoked.pop(user_token, None)
        if len(self.revoked) >= _MOST_REVOKED:
            del self.revoked[next(iter(self.revoked))]
        self.revoked[user_token] = forgotten_at

    def was_revoked(self, user_token: int, now: float) -> bool:
        """Whether a token that it does not have is of a user that was taken out a short while ago."""
        return self.revoked is not None and now < self.revoked.get(user_token, 0.0)

    def count_drop(self, verdict: Verdict, datagrams: int = 1) -> None:
        """Counts datagrams that named this session and were dropped."""
        if self.drops is None:
            self.drops = {}
        self.drops[verdict] = self.drops.get(verdict, 0) + datagrams

    def bindings(self) -> Iterator[Binding]:
        """All there are."""
        for user in self.users.values():
            for binding in (user.server_binding, user.client_binding):
                if binding is not None:
                    yield binding

    def traffic(self) -> Traffic:
        """What was forwarded in this session so far, revoked users included."""
        total = Traffic()
        if self.revoked_traffic is not None:
            total.add(self.revoked_traffic)
        for user in self.users.values():
            if user.traffic is not None:
                total.add(user.traffic)
        return total
