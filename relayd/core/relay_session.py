"""`RelaySession`, as session files and the REST API carry it: tests/fixtures/edgegap-relays-v1.json."""

import ipaddress
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.wire import MAX_TOKEN


def canonical_ip(text: str) -> str:
    """An address in the one form that is compared: compressed, and IPv4 where IPv6 only wraps it.

    Raises:
        ValueError: the text is no IP address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.compressed


Token = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKEN)]
_IP_ADDRESS = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
IpAddress = Annotated[str, AfterValidator(canonical_ip), WithJsonSchema(_IP_ADDRESS)]

# What is left out of an answer, while a file may also say null. Not a union with a hidden None: where it is mistaken,
# Pydantic would name the branch of the union as if it were a field.
_PerhapsIpAddress = Annotated[IpAddress | None, WithJsonSchema(_IP_ADDRESS)]
_PerhapsNumber = Annotated[float | None, WithJsonSchema({"type": "number"})]
_PerhapsText = Annotated[str | None, WithJsonSchema({"type": "string"})]


def _as_answered(schema: dict[str, Any], model: "type[_Shown]") -> None:
    """An answer has no defaults: a field is there, or it is left out."""
    for field in schema["properties"].values():
        field.pop("default", None)
    schema["required"] = sorted({*schema.get("required", ()), *model.ALWAYS})


class _Shown(BaseModel):
    """What the API answers and what session files say; those may leave out more, or say null instead."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra=_as_answered)

    ALWAYS: ClassVar[tuple[str, ...]] = ()
    """Fields that every answer has, though a file may leave them out."""


class SessionUser(_Shown):
    """A user of a session."""

    ALWAYS = ("ip_address",)

    ip_address: _PerhapsIpAddress = None
    """Where it plays from."""
    latitude: _PerhapsNumber = None
    longitude: _PerhapsNumber = None
    authorization_token: Token
    """What the user proves itself with."""


class RelayPort(_Shown):
    """A port of a relay."""

    ALWAYS = ("protocol",)

    port: int
    protocol: str = "UDP"
    link: str
    """`host:port`."""


class RelayPorts(_Shown):
    """Where the host and where the players send to."""

    server: RelayPort
    client: RelayPort


class Relay(_Shown):
    """The relay a session is linked to."""

    ip: str
    host: str
    ports: RelayPorts


class SessionState(_Shown):
    """What is the same in every answer about a session."""

    ALWAYS = ("status", "ready", "linked")

    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    authorization_token: Token | None = None
    """What all of the session prove themselves with; null while it initializes."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["Initializing", "Ready", "Error"]})] = "Ready"
    ready: bool = True
    """Whether it can be used."""
    linked: bool = True
    """Whether a relay has it."""
    error: _PerhapsText = None
    """Why it failed."""
    relay: Relay | None = None
    """Null while it initializes."""
    webhook_url: _PerhapsText = None
    """What is called once it is ready or has failed."""


class RelaySession(SessionState):
    """A session as the API shows it. Until it is linked it has no tokens, no users and no relay."""

    session_users: list[SessionUser] = []
    """The host first; none while it initializes."""

    def spec(self) -> SessionSpec | None:
        """What the relay's table needs of it; None while it has no token, so that nobody could use it."""
        if self.authorization_token is None:
            return None
        users = tuple(UserSpec(user.authorization_token, user.ip_address) for user in self.session_users)
        return SessionSpec(self.session_id, self.authorization_token, users)
