"""What relays say and are told over HTTP; `models.py` has what backends do."""

from typing import Annotated

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from relayd.control_plane.forms import Asked, Described
from relayd.control_plane.models import PAGE_LIMIT, Latitude, Longitude
from relayd.core.relay_session import IpAddress, RelaySession, SessionUser, Token

Name = Annotated[str, Field(min_length=1, max_length=128)]
Port = Annotated[int, Field(ge=1, le=65535)]
Amount = Annotated[int, Field(ge=0, le=2**53)]

MOST_CAPACITY = 1_000_000
"""Users of one relay. Placement goes by the share of its capacity that a relay has in use: one that claims more than a
machine can serve would draw every new session. A million players, 30 datagrams of 100 bytes a second, are 24 Gbit/s."""


class HandedBack(Described):
    """A session that its relay has and the control plane lost."""

    session_id: Annotated[str, Field(max_length=128)]
    authorization_token: Token
    session_users: list[SessionUser]
    """The host first."""


class Heartbeat(Asked):
    """Where a relay is reached, where it stands, how it fares, what it has applied."""

    ip: IpAddress
    host: Annotated[str, Field(min_length=1, max_length=253)]
    server_port: Port
    client_port: Port
    attributes: Annotated[dict[Name, Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field({})
    """What filters look at: city, country, continent, region …"""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    capacity: Annotated[int, Field(ge=0, le=MOST_CAPACITY)]
    """Users it can take; 0: it names no bound."""
    load: Amount
    """Users bound now."""
    draining: bool = False
    epoch: str | None = None
    """The history its revision belongs to; null before it has applied anything."""
    revision: Amount = 0
    """Newest change that it has applied."""
    ended: list[str] = Field([])
    """Sessions it ended because nobody used them."""
    own_addresses: Annotated[list[IpAddress], Field(max_length=32)] = Field([])
    """Where its sockets are reached besides `ip`: no other relay lets anybody in from there, at one of its ports."""
    own_ports: Annotated[list[Port], Field(max_length=2)] = Field([])
    """Of its sockets, where a NAT or a container maps them to those above."""
    fleet: str | None = None
    """`digest` of the newest `fleet` it was told, `none` before the first; null: it wants none."""
    handed_back: Annotated[list[HandedBack], Field(max_length=PAGE_LIMIT)] = Field([])
    """After `went_back`: sessions that somebody plays in and that it was not told of any more."""

    @property
    def address(self) -> tuple[str, int, int]:
        """What tells two relays apart: the address and both ports that players are told."""
        return self.ip, self.server_port, self.client_port


class FleetRelay(Described):
    """Where one relay sends from: each address with each port."""

    addresses: list[str]
    ports: list[int]


class FleetRelays(Described):
    """Where the fleet's relays send from. A relay takes nothing from another: what two send each other never ends."""

    digest: str
    """What the relay names it by in its next heartbeats."""
    relays: list[FleetRelay]


class NodeRevision(Described):
    """The newest state there is for a relay."""

    epoch: str
    revision: int
    fleet: FleetRelays | SkipJsonSchema[None] = None
    """Left out when it is the one that the heartbeat names."""
    went_back: bool | SkipJsonSchema[None] = None
    """True when the relay has applied what this store had and lost, as with a restored backup; else left out."""
    taken_back: list[str] | SkipJsonSchema[None] = None
    """Which of the sessions in `handed_back` are in the store now; the others are not wanted. Left out if none came."""


class NodeSessions(Described):
    """A page of a relay's sessions, or of what changed in them.

    A relay that has read all pages has applied the revision of the *first*: whatever changed while it read the
    others carries a greater one and comes with the next delta.
    """

    epoch: str
    revision: int
    full: bool
    """True: all sessions there are. False: those changed after `since`, and `removed`."""
    sessions: list[RelaySession]
    removed: list[str]
    """On the first page of a delta only."""
    next: str | None
    """What to pass as `after` for the following page; null on the last."""
