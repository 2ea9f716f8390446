"""HTTP over a Unix socket."""

import http.client
import socket
from pathlib import Path

from tests.integration.waiting import PATIENCE_SECONDS


class UnixConnection(http.client.HTTPConnection):
    """To whoever listens there."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = connected(self._path)


def connected(path: Path) -> socket.socket:
    """A connection on which the test says what it wants."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE_SECONDS)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock
