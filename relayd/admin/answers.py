"""What a relay's admin API answers: built from these models here, read into them by `AdminClient` and the commands.

Pydantic's, as everywhere in relayd, so that what answers on the admin port but is no relay is told apart by the same
declaration. A page of 1,000 sessions takes about 6 ms of processor time, with dicts it would be 2.5; they are made in
slices, between which the loop forwards. `defer_build` leaves each model's validator for its first use: a relay that
starts has no time for it.

A newer command asks an older relay to be replaced: what is added to `Program` or `RelayStatus` needs a default.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

AnyAnswer = TypeVar("AnyAnswer", bound="Answer")


class Answer(BaseModel):
    """What all of them share. Fields that were not given when it was made are not in its JSON."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    def to_json(self) -> bytes:
        """As it goes over HTTP."""
        return self.model_dump_json(exclude_unset=True).encode()

    def fields(self) -> dict[str, Any]:
        """Its JSON as dicts and lists."""
        return self.model_dump(mode="json", exclude_unset=True)


class Ports(Answer):
    """`GET /v1/relay`: the two UDP ports."""

    server_port: int
    client_port: int


class Program(Answer):
    """`POST /v1/upgrade`: which program is about to be replaced."""

    version: str
    instance: str
    """Of this run of it: another after each start."""


class Count(Answer):
    """How much went one way, or met with one verdict."""

    datagrams: int
    bytes: int


NOTHING = Count(datagrams=0, bytes=0)


# Sessions -------------------------------------------------------------------------------------------------


class SessionSummary(Answer):
    """One line of the list of sessions."""

    session_id: str
    users: int
    host_bound: bool
    players_bound: int
    to_host: Count
    to_player: Count
    dropped: int


class SessionsPage(Answer):
    """`GET /v1/sessions`."""

    total_count: int
    """In all pages."""
    sessions: list[SessionSummary]


class Address(Answer):
    """Of a peer."""

    ip: str
    port: int


class PingSummary(Answer):
    """What the PINGs of a peer say of its way to the relay."""

    heard: int
    missed: int
    loss: float
    """From 0 to 1."""
    interval_jitter_seconds: float


class BoundAt(Answer):
    """Where a user is bound."""

    port: str
    address: Address
    bound_seconds: float
    last_seen_seconds_ago: float
    connection_id: int | None = None
    """Of players; there even where it is null."""
    pings: PingSummary | None = None
    """Only there once two were heard."""


class UserDetails(Answer):
    """One of a session's users."""

    authorization_token: str
    """Shortened, as everywhere here."""
    ip_address: str | None
    role: str | None
    """host or player; None while it is not bound."""
    bindings: list[BoundAt]
    to_host: Count
    to_player: Count


class SessionDetails(Answer):
    """`GET /v1/sessions/{session_id}`."""

    session_id: str
    authorization_token: str
    to_host: Count
    to_player: Count
    drops: dict[str, int]
    """Datagrams by verdict."""
    users: list[UserDetails]


# The relay as a whole -------------------------------------------------------------------------------------


class UsersStatus(Answer):
    """How many users there are, and are bound at each port."""

    authorized: int
    host: int
    player: int


class SourceState(Answer):
    """How the session source stands."""

    age_seconds: float | None
    """Of what was read last; None before that."""
    problem: str | None
    failures: int


class FastPathInterface(Answer):
    """How one of its interfaces stands."""

    name: str
    state: str
    """`InterfaceState` of relayd/core/views.py."""
    lost: int
    """Datagrams that the kernel sent by it and that it lost."""
    problem: str
    """Why the kernel does not forward there; empty while it does."""
    way_out: str
    """What may be done about it."""


class FastPathStatus(Answer):
    """What the kernel does."""

    up: bool
    bindings: int
    forwarded: int
    """Datagrams."""
    lost: int
    """Of the datagrams counted as forwarded or answered, those that interfaces lost on their way out."""
    interfaces: list[FastPathInterface]


class RelayStatus(Program):
    """`GET /v1/status`."""

    time_seconds: float
    """On a clock of the relay's own, for rates between two answers."""
    draining: bool
    ready: bool
    sessions: int
    active_sessions: int
    """With somebody bound."""
    users: UsersStatus
    source: SourceState
    ports: dict[str, dict[str, Count]]
    """By port, by verdict: those that there were."""
    fast_path: FastPathStatus | None


class DrainStatus(Answer):
    """`GET`, `POST` and `DELETE /v1/drain`: how far it is."""

    draining: bool
    active_sessions: int
    bound_users: int
    control_plane_told: bool | None
    """Whether the control plane knows; None where there is none, or it cannot be reached."""

    @property
    def done(self) -> bool:
        """Whether the relay can go without ending a game, and without getting a new one meanwhile."""
        return self.draining and not self.active_sessions and self.control_plane_told is not False


# Captures -------------------------------------------------------------------------------------------------


class SeenPeer(Answer):
    """Somebody who sends in a session."""

    port: str
    ip: str
    udp_port: int


class WatchedSession(Answer):
    """`POST /v1/sessions/{session_id}/watch`: what its datagrams look like."""

    server_port: int
    client_port: int
    token_ends_with: int
    """The last three decimal digits of its token."""
    fast_path: bool
    over: bool
    """Whether it ended since the first request for it."""
    peers: list[SeenPeer]


# Explanations ---------------------------------------------------------------------------------------------


class ExplainedCause(Answer):
    """One thing that was found."""

    code: str
    sentence: str
    advice: str
    """Empty where there is nothing to do."""
    last_seconds_ago: float
    current: bool
    """Whether it showed within the last minute."""


class ExplainedRefusal(Answer):
    """Datagrams that were refused, all alike."""

    verdict: str
    session_id: str | None
    user: str | None
    session: str | None
    port: str
    address: str
    datagrams: int
    first_seconds_ago: float
    last_seconds_ago: float


class ExplainedChange(Answer):
    """Something that happened to a session or one of its users."""

    what: str
    session_id: str
    user: str | None
    port: str | None
    address: str | None
    times: int
    seconds_ago: float


class Explanation(Answer):
    """`GET /v1/explain`."""

    target: str
    """What was asked about, in words."""
    findings: list[ExplainedCause]
    refusals: list[ExplainedRefusal]
    changes: list[ExplainedChange]
