"""Where a relay is asked: over TCP by what scrapes and probes it, on a Unix socket by whoever runs it."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from relayd.errors import UnavailableError
from relayd.http.socket_path import SETTING, make_folder, path_of_this_user
from relayd.http.tcp import listen
from relayd.http.tls import Certificate
from relayd.http.unix_socket import HeldError, NoPlaceError, UnixListener, check_length
from relayd.settings import Settings

_log = structlog.get_logger()

if TYPE_CHECKING:
    from fastapi import FastAPI

    from relayd.http.server import HttpServer


class AdminFiles(NamedTuple):
    """What is read before anything is opened."""

    certificate: Certificate | None
    token: str | None

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Reads it, and looks whether the Unix socket may have the path that is named.

        Raises:
            ConfigurationError: certificate, token or path cannot be used.
        """
        admin = settings.admin
        if admin.socket is not None:
            check_length(admin.socket, SETTING)
        certificate = Certificate.configured(admin.tls_certificate_file, admin.tls_key_file, "admin")
        return cls(certificate, admin.read_token())


class AdminListeners:
    """Both, listening from when they are made.

    Args:
        settings: of the relay.
        path: of the Unix socket. Where none can be made there, as on a full disk, or another relay listens there, it
            is elsewhere, unless the settings name it: games go on without.
        files: what the settings name.
        kept: the Unix socket of the predecessor in this process.

    Raises:
        UnavailableError: one of them is not available; neither is open.
    """

    def __init__(self, settings: Settings, path: Path, files: AdminFiles, kept: socket.socket | None) -> None:
        self._settings = settings
        self._files = files
        self._tcp = listen(settings.admin.bind, "admin.bind")
        try:
            self._unix = _listen_for_commands(settings, path, kept)
        except UnavailableError:
            self._tcp.close()
            raise

    @property
    def socket_path(self) -> Path | None:
        """Where the Unix socket is; None where none could be made."""
        return None if self._unix is None else self._unix.path

    @property
    def for_successor(self) -> list[socket.socket]:
        """What the next program in this process goes on with: requests wait in it meanwhile."""
        return [] if self._unix is None else [self._unix.socket]

    def servers(self, app: "FastAPI") -> "list[HttpServer]":
        """What serves an application on both; over TCP, no more than the guard lets through.

        Each has connections of its own: however many there are to one, the other answers.
        """
        # Half of the time that relayd takes to start goes into these: not before it forwards.
        from relayd.admin.guard import Guard  # noqa: PLC0415
        from relayd.http.server import HttpServer  # noqa: PLC0415

        most = self._settings.admin.max_connections
        guarded = Guard(app, self._settings, self._files.token, self.socket_path)
        return [
            HttpServer(guarded, self._tcp, most_connections=most, certificate=self._files.certificate),
            *(HttpServer(app, sock, most_connections=most) for sock in self.for_successor),
        ]

    def close(self, *, handed_on: bool = False) -> None:
        """Ends both; the Unix socket's file stays if a successor goes on with it."""
        self._tcp.close()
        if self._unix is not None:
            self._unix.close(handed_on=handed_on)


def _listen_for_commands(settings: Settings, path: Path, kept: socket.socket | None) -> UnixListener | None:
    try:
        make_folder(path, settings)
        return UnixListener(path, SETTING, kept)
    except (NoPlaceError, HeldError) as error:
        if settings.admin.socket is not None:
            raise
        _log.warning("no admin socket where it should be", why=str(error))
    elsewhere = path_of_this_user(settings)
    try:
        make_folder(elsewhere, settings)
        return UnixListener(elsewhere, SETTING)
    except (NoPlaceError, HeldError) as error:
        _log.warning("no admin socket: commands reach this relay with admin.token_file only", why=str(error))
        return None
