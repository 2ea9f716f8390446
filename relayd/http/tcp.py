"""Listening TCP sockets."""

import errno
import socket

from relayd.errors import UnavailableError
from relayd.settings import split_address, variable_of

BACKLOG = 1024


def listen(address: str, setting: str, way_out: str | None = None) -> socket.socket:
    """A listening TCP socket.

    Args:
        address: ``host:port``.
        setting: the key of the configuration it comes from, to be named in errors.
        way_out: what to do where the port is taken; by default, to set another one.

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
        what = f"TCP port {port} on {host} ({setting})"
        if error.errno != errno.EADDRINUSE:
            raise UnavailableError(f"{what} is not available: {error.strerror}") from None
        way_out = way_out or f"set another one: {setting}, or {variable_of(setting)} in the environment"
        raise UnavailableError(f"{what} is taken: `ss -ltnp sport = :{port}` shows by whom; or {way_out}") from None
    return sock
