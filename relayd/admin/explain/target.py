"""What somebody asks about, as typed: a session's id, a token, or an address."""

import re
from typing import NamedTuple

from relayd.core.relay_session import canonical_ip
from relayd.core.wire import MAX_TOKEN
from relayd.log import short_token

_WITH_PORT = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))[: ](?P<port>[0-9]{1,5})$")


class Target(NamedTuple):
    """One reading of it. A number may be a token of a session or of a user; only the table knows."""

    session_id: str
    """The text as it is, for it may be the id of a session, whatever it looks like."""
    token: int | None = None
    ip_address: str | None = None
    udp_port: int | None = None

    @property
    def words(self) -> str:
        """How it is named in an answer: a token shortened."""
        if self.token is not None:
            return f"token {short_token(self.token)}"
        if self.ip_address is not None:
            return self.ip_address if self.udp_port is None else f"{self.ip_address} {self.udp_port}"
        return f"session {self.session_id}"

    def is_at(self, ip_address: str, udp_port: int) -> bool:
        """Whether it is this address, or all of this IP address."""
        return self.ip_address == ip_address and self.udp_port in (None, udp_port)


def read_target(text: str) -> Target:
    """What a text may mean; every text means something."""
    text = text.strip()
    if text.isascii() and text.isdecimal() and int(text) <= MAX_TOKEN:
        return Target(text, token=int(text))
    parts = _WITH_PORT.match(text)
    try:
        if parts is not None:
            return Target(text, ip_address=canonical_ip(parts["six"] or parts["four"]), udp_port=int(parts["port"]))
        return Target(text, ip_address=canonical_ip(text))
    except ValueError:
        return Target(text)
