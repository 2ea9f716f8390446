"""What goes over HTTP besides `RelaySession`. Validation, the OpenAPI document and the page are all made of it."""

import ipaddress
import re
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from relayd.control_plane.forms import Asked, Described
from relayd.core.relay_session import IpAddress, RelaySession, SessionState, SessionUser

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


# Not a union with a hidden None: where it is mistaken, Pydantic would name the branch of the union as if it were one.
# None itself never comes to the validator, see `Asked`.
WebhookUrl = Annotated[
    str | None, AfterValidator(_checked_webhook_url), WithJsonSchema({"type": "string", "pattern": WEBHOOK_URL_PATTERN})
]


def _degrees(most: int, whole: str) -> WithJsonSchema:
    """A number between -most and most, or that number as text; `whole` matches what is below `most`."""
    text = f"^-?(?:(?:{whole})(?:[.][0-9]{{1,19}})?|{most}(?:[.]0{{1,19}})?)$"
    number = {"type": "number", "minimum": -most, "maximum": most}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": text}]})


Latitude = Annotated[float, Field(strict=True, ge=-90, le=90), _degrees(90, "[0-8]?[0-9]")]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180), _degrees(180, "[0-9]{1,2}|1[0-7][0-9]")]


def _all_forms(schema: dict[str, Any]) -> None:
    """A bare address, `ip` and `ip_address` all name the address; with both, `ip` counts."""
    address, where = schema["properties"].pop("ip"), schema["properties"]
    forms = [
        {"type": "object", "properties": {"ip": address, **where}, "required": ["ip"]},
        {
            "type": "object",
            "properties": {"ip_address": address, "ip": {"enum": [None, ""]}, **where},
            "required": ["ip_address"],
        },
    ]
    description = schema["description"]
    schema.clear()
    schema |= {"description": description, "anyOf": [*address["anyOf"], *forms]}


class NewUser(Asked):
    """A user of a new session: a bare address, or an object; the address may be called `ip_address` too."""

    model_config = ConfigDict(json_schema_extra=_all_forms)

    ip: IpAddress
    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"ip": value}
        if isinstance(value, dict) and value.get("ip") in (None, "") and "ip_address" in value:
            return value | {"ip": value["ip_address"]}
        return value


class Filter(Asked):
    """A condition on one of the location attributes of a relay."""

    field: Annotated[str, Field(min_length=1, max_length=64)]
    """Attribute: city, country, continent, region …"""
    values: Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=100)]
    filter_type: Literal["any", "all", "not"]
    """Any of the values, all of them, or none of them."""


class CreateRequest(Asked):
    """What a new session is to be like."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"users": ["198.51.100.1", "198.51.100.2"]}]})

    users: Annotated[list[NewUser], Field(min_length=1, max_length=1000)]
    """The host first; a bare address is a user too."""
    filters: Annotated[list[Filter], Field(max_length=100)] = Field([])
    """Conditions on the location of the relay; all must hold."""
    webhook_url: WebhookUrl = None
    """Called with the session once it is ready or has failed; the host may be a literal IP address too."""


SESSION_ID_PATTERN = "^[0-9a-f]{12}-S$"


def _checked_session_id(text: str) -> str:
    # The contract has no 404 where this is asked for. What cannot be an id is a bad request; an id that is gone is a
    # 404, as everywhere else.
    if not re.fullmatch(SESSION_ID_PATTERN, text) or text.endswith("\n"):
        raise ValueError("is no session id; they look like 0724828881e2-S")
    return text


class AuthorizeRequest(Asked):
    """Whom to let in."""

    session_id: Annotated[
        str, AfterValidator(_checked_session_id), WithJsonSchema({"type": "string", "pattern": SESSION_ID_PATTERN})
    ]
    """Such as 0724828881e2-S."""
    user_ip: IpAddress
    """Address of the user to let in."""


class RevokeRequest(Asked):
    """Whom to take out. Any integer is a well-formed question; one that is no token finds no user."""

    session_id: str
    """Such as 0724828881e2-S."""
    authorization_token: Annotated[int, Field(strict=True)]
    """Token of the user to take out."""


class SessionPage(NamedTuple):
    """A page of all sessions."""

    sessions: list[RelaySession]
    total: int
    """Sessions on all pages."""
    page: int
    """1-based."""
    limit: int
    more: bool
    """Whether there are sessions behind it."""
    last: int | None
    """Number of its last session; None for an empty page."""


class Paginator(Described):
    """All pages."""

    num_pages: Annotated[int, Field(ge=1)]


class Pagination(Described):
    """Where a page stands among all."""

    number: Annotated[int, Field(ge=0)]
    next_page_number: Annotated[int, Field(ge=1)] | None
    previous_page_number: Annotated[int, Field(ge=1)] | None
    paginator: Paginator
    has_next: bool
    has_previous: bool

    @classmethod
    def of(cls, page: SessionPage) -> Self:
        """A page beyond the last has none after it, and the last one before it. An empty list has one page.

        Whether there is a next one is what is there behind this one: by number, a list that has shrunk since its first
        pages were read would seem to end too early.
        """
        has_next, has_previous = page.more, page.page > 1
        pages = max(1, -(-page.total // page.limit))
        if has_next:
            pages = max(pages, page.page + 1)
        elif page.sessions:
            pages = page.page
        return cls(
            number=page.page,
            next_page_number=page.page + 1 if has_next else None,
            previous_page_number=min(page.page - 1, pages) if has_previous else None,
            paginator=Paginator(num_pages=pages),
            has_next=has_next,
            has_previous=has_previous,
        )


class SessionList(Described):
    """A page of all sessions, oldest first."""

    sessions: list[RelaySession]
    total_count: Annotated[int, Field(ge=0)]
    pagination: Pagination


class AuthorizedUser(SessionState):
    """A session, and who was let in."""

    session_user: SessionUser
    """The user let in."""

    @classmethod
    def of(cls, session: RelaySession, user: SessionUser) -> "AuthorizedUser":
        """The session, with that user alone."""
        fields = dict(session)
        del fields["session_users"]
        return cls.model_construct(session_user=user, **fields)


class PublicIp(Described):
    """An address as the server sees it."""

    public_ip: IpAddress
    """Of the caller."""


class Error(Described):
    """Why a request was refused."""

    message: str
    """What is wrong, and the way out."""
