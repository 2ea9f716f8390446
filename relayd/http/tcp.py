"""Listening TCP sockets."""

import errno
import socket

from relayd.errors import UnavailableError
from relayd.settings import split_address

BACKLOG = 1024


def listen(address: str, setting: str) -> socket.socket:
    """A listening TCP socket.

    Args:
        address: ``host:port``.
        setting: the key of the configuration it comes from, to be named in errors.

    Raises:
        UnavailableError: the address or port is not available.
    """
    host, port = split_address(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        who = f": `ss -ltnp sport = :{port}` shows by whom" if error.errno == errno.EADDRINUSE else ""
        taken = "is taken" if error.errno == errno.EADDRINUSE else f"is not available: {error.strerror}"
        raise UnavailableError(f"TCP port {port} on {host} ({setting}) {taken}{who}") from None
    return sock
