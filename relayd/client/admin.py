"""Asks a running relay: over its admin socket, else over TCP, with the token of its configuration if there is one."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import httpx

from relayd.admin.answers import (
    AnyAnswer,
    DrainStatus,
    Explanation,
    Ports,
    Program,
    RelayStatus,
    SessionDetails,
    SessionsPage,
    SessionSummary,
    WatchedSession,
)
from relayd.errors import FatalError, RefusedError, UnavailableError, UsageError
from relayd.http.socket_path import paths_to_ask
from relayd.http.tls import trusting
from relayd.http.unix_socket import why_unreachable
from relayd.settings import Settings

_PAGE = 1000
_PATIENCE_SECONDS = 10.0
_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST)


class AdminClient:
    """The admin API of a relay on this host.

    Args:
        settings: its configuration.
        config: the file that was read from; None for the default one.

    Raises:
        ConfigurationError: its certificate cannot be read.
    """

    def __init__(self, settings: Settings, config: Path | None = None) -> None:
        admin = settings.admin
        self._paths = paths_to_ask(settings, config)
        self._admin = admin
        self._own = Ports(server_port=settings.relay.server_port, client_port=settings.relay.client_port)
        self._verify: ssl.SSLContext | bool = True
        if admin.tls_certificate_file is not None:
            self._verify = trusting(admin.tls_certificate_file, "admin.tls_certificate_file")

    def about(self) -> Ports:
        """Which ports the relay has."""
        return self._ask(Ports, "GET", "/v1/relay")

    def status(self) -> RelayStatus:
        """How the whole relay stands."""
        return self._ask(RelayStatus, "GET", "/v1/status")

    def sessions(self, active: bool = False, limit: int | None = None) -> SessionsPage:
        """Sessions in the table in summary, in the order they came to it, and how many there are in all.

        Args:
            active: only those that somebody is bound in.
            limit: so many at most; None for all.
        """
        found: list[SessionSummary] = []
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._ask(
                SessionsPage, "GET", "/v1/sessions", {"limit": size, "offset": len(found), "active": active}
            )
            found += page.sessions
            if not page.sessions or len(found) in (limit, page.total_count):
                return SessionsPage(total_count=page.total_count, sessions=found)

    def session(self, session_id: str) -> SessionDetails:
        """One session in full."""
        return self._ask(SessionDetails, "GET", f"/v1/sessions/{quote(session_id, safe='')}")

    def explain(self, target: str) -> Explanation:
        """What is known of a token, a session or an address."""
        return self._ask(Explanation, "GET", "/v1/explain", {"target": target})

    def upgrade(self) -> Program:
        """Has it replaced by the program that is installed now; says what it was."""
        return self._ask(Program, "POST", "/v1/upgrade")

    def drain(self) -> DrainStatus:
        """Begins the drain, and says how far it is."""
        return self._ask(DrainStatus, "POST", "/v1/drain")

    def undo_drain(self) -> DrainStatus:
        """Takes new games again."""
        return self._ask(DrainStatus, "DELETE", "/v1/drain")

    def drain_status(self) -> DrainStatus:
        """How far the drain is."""
        return self._ask(DrainStatus, "GET", "/v1/drain")

    def watch(self, session_id: str) -> WatchedSession:
        """Has the engine see every datagram of a session for a few seconds; says what they look like."""
        return self._ask(WatchedSession, "POST", f"/v1/sessions/{quote(session_id, safe='')}/watch")

    def unwatch(self, session_id: str) -> None:
        """Ends that before its time."""
        with suppress(httpx.HTTPError):  # a relay that is gone has ended it
            self._request("DELETE", f"/v1/sessions/{quote(session_id, safe='')}/watch")

    def _request(self, method: str, path: str, params: Mapping[str, int | str] | None = None) -> httpx.Response:
        """The answer of this relay on its socket, else of whoever listens on TCP.

        Raises:
            ConfigurationError: the token cannot be read.
            UnavailableError: neither is the case, or the answer does not come.
        """
        missed: list[str] = []
        for socket_path in self._paths:
            # httpx would do the same, and leave its socket open where there is nobody.
            problem = why_unreachable(socket_path)
            if problem is not None:
                missed.append(f"{socket_path}: {problem.strerror or problem}")
                continue
            # No TLS, and so no authorities to read, which a minimal host may lack.
            transport = httpx.HTTPTransport(uds=str(socket_path), verify=False)
            try:
                with httpx.Client(
                    transport=transport, base_url="http://localhost", timeout=_PATIENCE_SECONDS
                ) as client:
                    # Relays without paths of their own share one: nobody must drain another's. A path that is named
                    # was meant.
                    other = None if self._admin.socket is not None else self._why_another(client, socket_path)
                    if other is None:
                        return client.request(method, path, params=params)
                    missed.append(other)
            except httpx.HTTPError as error:
                raise UnavailableError(f"no relay answers on {socket_path} ({error}); does relayd hang?") from None
        token = self._admin.read_token()
        try:
            return httpx.request(
                method,
                self._admin.url + path,
                params=params,
                headers={} if token is None else {"authorization": f"Bearer {token}"},
                timeout=_PATIENCE_SECONDS,
                trust_env=False,
                verify=self._verify,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no relay answers on {self._admin.bind} ({error}), nor on its socket ({'; '.join(missed)});"
                " is relayd running, and is this its configuration?"
            ) from None

    def _why_another(self, client: httpx.Client, socket_path: Path) -> str | None:
        """Who answers there, if it is not the relay of this configuration. Asks over the connection that is used on."""
        try:
            found = Ports.model_validate_json(client.get("/v1/relay").raise_for_status().content)
        except (ValueError, httpx.HTTPStatusError):
            return f"{socket_path}: what answers there is no relay"
        if (found.server_port, found.client_port) == (self._own.server_port, self._own.client_port):
            return None
        return (
            f"{socket_path}: another relay, with UDP ports {found.server_port} and {found.client_port};"
            f" RELAYD_ADMIN__SOCKET={socket_path} relayd … asks that one"
        )

    def _ask(
        self, kind: type[AnyAnswer], method: str, path: str, params: Mapping[str, int | str] | None = None
    ) -> AnyAnswer:
        answer = self._request(method, path, params)
        try:
            if answer.status_code == HTTPStatus.OK:
                return kind.model_validate_json(answer.content)
            message = str(answer.json().get("message", answer.text))
        except (ValueError, AttributeError):
            raise UnavailableError(f"what answers on {self._admin.bind} is no relay; is admin.bind right?") from None
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            raise UsageError(message)
        if answer.status_code in _REFUSALS:
            raise RefusedError(message)
        raise FatalError(message)
