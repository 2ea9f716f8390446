"""What the admin server answers over TCP: metrics and health; with the token, the rest too.

Whoever has an account on this host can connect to a port on loopback, and so can a page in a browser there. A page of
another site cannot read what it gets, unless its own name was made to lead here in between (DNS rebinding): then the
`Host` of its requests is that name. So names that anybody can register are answered only if they are this relay's.
"""

import hmac
import ipaddress
import re
import socket
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relayd.admin.responses import said
from relayd.http.socket_path import SETTING
from relayd.settings import Settings

OPEN = frozenset({"/metrics", "/healthz", "/readyz"})
"""They change nothing, and tell nothing of players: who scrapes and probes needs no token."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(:[0-9]*)?")
"""uri-host [ ":" port ], RFC 9110, 7.2."""
_IN_NO_PUBLIC_DNS = (".localhost", ".local", ".internal", ".home.arpa")
"""RFC 6761, RFC 6762, ICANN's resolution 2024.07.29.06, RFC 8375. Kubernetes' names end in `cluster.local`."""
_SCHEMES = ("bearer", "token")
_LONGEST_SHOWN = 100


class Guard:
    """An ASGI application that lets through to another what may be answered.

    Args:
        app: the other.
        settings: of the relay: the names it has.
        token: what everything but `OPEN` needs; None where that is not served.
        socket_path: where it is served as well, to be named in answers; None for nowhere.
    """

    def __init__(self, app: ASGIApp, settings: Settings, token: str | None, socket_path: Path | None) -> None:
        self._app = app
        self._token = token
        self._socket_path = socket_path
        own = (socket.gethostname(), settings.relay.public_host, *settings.admin.hosts)
        self._names = frozenset(name.rstrip(".").lower() for name in own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "localhost")  # HTTP/1.0 may leave it out, and browsers do not speak that
        if not self._is_own(host):
            return said(
                f"{host[:_LONGEST_SHOWN]} is no name of this relay: ask it by an address, or name it in admin.hosts",
                421,
            )
        if scope["path"] in OPEN:
            return None
        if self._token is None:
            ask = (
                f"`RELAYD_ADMIN__SOCKET={self._socket_path} relayd …` asks on its Unix socket ({SETTING}), which is for"
                " root and the relay's user; or "
            )
            return said(f"not served on this port: {ask if self._socket_path else ''}set admin.token_file", 403)
        if not _holds(headers.get("authorization", ""), self._token):
            refusal = said("send the token in admin.token_file, as Authorization: Bearer TOKEN", 401)
            refusal.headers["www-authenticate"] = "Bearer"
            return refusal
        return None

    def _is_own(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts[1].strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            # One without a dot is of this network: public DNS has none of them (RFC 7085).
            return bool(name) and ("." not in name or name in self._names or name.endswith(_IN_NO_PUBLIC_DNS))
        # Nobody can have an address lead elsewhere; and behind a NAT it need not be one of this host's own.
        return True


def _holds(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    # The time it takes must not tell how much of it is right.
    return scheme.lower() in _SCHEMES and hmac.compare_digest(given.strip().encode(), token.encode())
