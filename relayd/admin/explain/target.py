"""What somebody asks about, as typed: a session's id, a token, or an address."""

import re
from typing import NamedTuple

from relayd.core.relay_session import canonical_ip
from relayd.core.wire import MAX_TOKEN
from relayd.log import short_token

_LARGEST_PORT = 65_535
_LONGEST_ID = 128
_LIKE_AN_ADDRESS = re.compile(
    r"""
    \[.*                                      # [2001:db8::1]:40000, and what lacks a part of that
    | [0-9.]*\.[0-9./:\ ]*                    # 1.2.3, 1.2.3.4:99999, 10.0.0.0/8
    | [0-9a-f]*:[0-9a-f]*:[0-9a-f:./]*        # 2001:db8:::1, 2001:db8::/32
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What nobody means as anything else."""
_WITH_PORT = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))[: ](?P<port>[0-9]+)$")


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
    """What a text may mean; every text may be a session's id."""
    text = text.strip()
    if _is_number(text) and int(text) <= MAX_TOKEN:
        return Target(text, token=int(text))
    parts = _WITH_PORT.match(text)
    try:
        if parts is not None and 0 < int(parts["port"]) <= _LARGEST_PORT:
            return Target(text, ip_address=canonical_ip(parts["six"] or parts["four"]), udp_port=int(parts["port"]))
        return Target(text, ip_address=canonical_ip(text))
    except ValueError:
        return Target(text)


def what_is_wrong(target: Target) -> str | None:
    """Why a text that looks like an address or a token is neither, and what to write; None where it is, or does not.

    It may be the id of a session all the same, which only the table knows.
    """
    text = target.session_id
    if target.token is not None or target.ip_address is not None:
        return None
    if not text:
        return "nothing is asked about: write a user token, a session's id or token, an IP address or IP:port"
    if len(text) > _LONGEST_ID:
        return f"{text[:20]}… has {len(text)} characters, and a session's id {_LONGEST_ID} at most"
    if _is_number(text):
        return f"{text} is no token: the largest is {MAX_TOKEN}"
    if not _LIKE_AN_ADDRESS.fullmatch(text):
        return None
    parts = _WITH_PORT.match(text)
    if parts is not None and not 0 < int(parts["port"]) <= _LARGEST_PORT:
        return f"{text} has no port that there is: write one from 1 to {_LARGEST_PORT}, or the IP address alone"
    return f"{text} is no IP address: write one as 203.0.113.7, 203.0.113.7:40000, 2001:db8::1 or [2001:db8::1]:40000"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
