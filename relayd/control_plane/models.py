"""What goes over HTTP besides `RelaySession`: requests, their validation, and answers."""

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from relayd.core.relay_session import IpAddress, RelaySession

PAGE_LIMIT = 1000
"""Most sessions in one answer."""

# The last label of a name begins with a letter: 0177.1 and 2130706433 are addresses to getaddrinfo.
_NAME = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.){0,7}[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_ADDRESS = r"[0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]"
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_REST = rf"(?::(?:{_PORT}))?(?:[/?][!-~]{{0,2000}})?"

WEBHOOK_URL_PATTERN = rf"^https?://{_NAME}{_REST}$"
"""No user:password@, which would end up in logs. Literal addresses are taken too, see `_checked_webhook_url`."""


def _checked_webhook_url(url: str) -> str:
    if re.fullmatch(WEBHOOK_URL_PATTERN, url) and "\n" not in url:
        return url
    if not re.fullmatch(rf"https?://(?:{_ADDRESS}){_REST}", url):
        raise ValueError("write it as http://host/path or https://host/path, without a user name")
    ipaddress.ip_address(urlsplit(url).hostname or "")
    return url


WebhookUrl = Annotated[str, AfterValidator(_checked_webhook_url)]
Latitude = Annotated[float, Field(strict=True, ge=-90, le=90)]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180)]


class NewUser(BaseModel):
    """One of a new session's users."""

    ip: IpAddress
    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> Any:
        """A bare address, `ip` and `ip_address` all name the address."""
        if isinstance(value, str):
            return {"ip": value}
        if isinstance(value, dict) and "ip" not in value and "ip_address" in value:
            return value | {"ip": value["ip_address"]}
        return value


class Filter(BaseModel):
    """A condition on one of the location attributes of a relay."""

    field: Annotated[str, Field(min_length=1, max_length=64)]
    values: Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=100)]
    filter_type: Literal["any", "all", "not"]


def _given(value: Any) -> Any:
    """An optional key is left out, not null: the contract has no nullable one."""
    if value is None:
        raise ValueError("may be left out, but not be null")
    return value


class CreateRequest(BaseModel):
    """Body of `relay-session-create`."""

    users: Annotated[list[NewUser], Field(min_length=1, max_length=1000)]
    filters: Annotated[list[Filter], Field(max_length=100), BeforeValidator(_given)] = []
    webhook_url: Annotated[WebhookUrl | None, BeforeValidator(_given)] = None


class AuthorizeRequest(BaseModel):
    """Body of `relay-user-authorize`."""

    session_id: str
    user_ip: IpAddress


class RevokeRequest(BaseModel):
    """Body of `relay-user-revoke`. Any integer is a well-formed question; one that is no token finds no user."""

    session_id: str
    authorization_token: Annotated[int, Field(strict=True)]


Name = Annotated[str, Field(min_length=1, max_length=128)]
Port = Annotated[int, Field(ge=1, le=65535)]
Amount = Annotated[int, Field(ge=0, le=2**53)]


class Heartbeat(BaseModel):
    """Body of a relay's heartbeat: where it is reached, where it stands, how it fares, what it has applied."""

    ip: IpAddress
    host: Annotated[str, Field(min_length=1, max_length=253)]
    server_port: Port
    client_port: Port
    attributes: Annotated[dict[Name, Annotated[str, Field(max_length=256)]], Field(max_length=64)] = {}
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    capacity: Amount
    """Users it can take; 0: no bound."""
    load: Amount
    """Users bound now."""
    draining: bool = False
    epoch: str | None = None
    """The history its revision belongs to; None before it has applied anything."""
    revision: Amount = 0
    ended: list[str] = []
    """Sessions it ended because nobody used them."""

    @property
    def address(self) -> tuple[str, int, int]:
        """What tells two relays apart: the address and both ports that players are told."""
        return self.ip, self.server_port, self.client_port


class NodeRevision(BaseModel):
    """Answer to a heartbeat: the newest state there is for that relay."""

    epoch: str
    revision: int


class NodeSessions(BaseModel):
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
    """What to pass as `after` for the following page; None on the last."""


class SessionPage(BaseModel):
    """A page of the public list."""

    sessions: list[RelaySession]
    total: int
    """Sessions on all pages."""
    page: int
    """1-based."""
    limit: int

    @property
    def pages(self) -> int:
        """Pages there are; an empty list has one."""
        return max(1, -(-self.total // self.limit))
