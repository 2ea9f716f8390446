"""`RelaySession` of the relay API (openapi/edgegap-relays-v1.json), as session files and the REST API carry it."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

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
IpAddress = Annotated[str, AfterValidator(canonical_ip)]


class SessionUser(BaseModel):
    """One of `session_users`."""

    ip_address: IpAddress | None = None
    latitude: float | None = None
    longitude: float | None = None
    authorization_token: Token


class RelayPort(BaseModel):
    """One of `relay.ports`."""

    port: int
    protocol: str = "UDP"
    link: str


class RelayPorts(BaseModel):
    """`relay.ports`: where the host and where the players send to."""

    server: RelayPort
    client: RelayPort


class Relay(BaseModel):
    """`relay`: the relay a session is linked to."""

    ip: str
    host: str
    ports: RelayPorts


class RelaySession(BaseModel):
    """A session as the API shows it. Until it is linked it has no tokens, no users and no relay."""

    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    authorization_token: Token | None = None
    status: str = "Ready"
    ready: bool = True
    linked: bool = True
    error: str | None = None
    session_users: list[SessionUser] = []
    relay: Relay | None = None
    webhook_url: str | None = None

    def spec(self) -> SessionSpec | None:
        """What the relay's table needs of it; None while it has no token, so that nobody could use it."""
        if self.authorization_token is None:
            return None
        users = tuple(UserSpec(user.authorization_token, user.ip_address) for user in self.session_users)
        return SessionSpec(self.session_id, self.authorization_token, users)
