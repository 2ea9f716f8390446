"""Sockets that systemd keeps for the next process, or that a replaced program leaves: LISTEN_FDS, FDSTORE=1.

See sd_listen_fds(3) and, in sd_notify(3), FDSTORE. A socket that is kept stays bound while no relayd is running, and
the kernel keeps queueing what comes in: no peer gets an ICMP error for a closed port, which would end games at once.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import NamedTuple

import structlog

from relayd.forwarding.sockets import BoundSocket, fits
from relayd.http.unix_socket import remove_if_dead
from relayd.settings import RelaySettings
from relayd.supervision.service_manager import ServiceManager

_log = structlog.get_logger()

_FIRST_FD = 3
"""SD_LISTEN_FDS_START: they come right after standard error."""
_UNNAMED = "unknown"


class KeptSockets(NamedTuple):
    """What the predecessor left open."""

    ports: list[socket.socket]
    """Both UDP ports, for each address."""
    admin: socket.socket | None
    """Where it listened for commands; only a program that was replaced leaves it."""


NOTHING_KEPT = KeptSockets([], None)


class _Passed(NamedTuple):
    name: str
    fd: int


def take_kept_sockets(
    environment: MutableMapping[str, str],
    settings: RelaySettings,
    manager: ServiceManager | None,
    admin_path: Path,
    first_fd: int = _FIRST_FD,
) -> KeptSockets:
    """The sockets that were passed to this process and fit the settings.

    The variables that name them are taken out of the environment. What does not fit is closed, here and where it is
    kept, and the log says so: it might hold an address that is wanted now.

    Args:
        environment: the process's.
        settings: what the sockets have to fit.
        manager: where they are kept.
        admin_path: where commands are listened for.
        first_fd: the lowest of their file descriptors.
    """
    kept: list[socket.socket] = []
    admin: socket.socket | None = None
    unfit: list[str] = []
    for name, fd in _passed(environment, first_fd):
        sock = _as_socket(fd)
        if sock is not None and fits(sock, settings):
            sock.set_inheritable(False)
            sock.setblocking(False)
            kept.append(sock)
            continue
        if sock is not None and admin is None and _listens_at(sock) == admin_path:
            sock.set_inheritable(False)
            sock.setblocking(False)
            admin = sock
            continue
        _log.info("what was kept does not fit the configuration and is closed", name=name)
        if sock is None:
            with contextlib.suppress(OSError):
                os.close(fd)  # that is none at all, if somebody counted wrong
        else:
            if name == _UNNAMED and _is_udp(sock):
                # A program that replaced another is not told under which name it is kept.
                name = _name(sock)  # noqa: PLW2901 - its other name
            listened_at = _listens_at(sock)
            sock.close()
            if listened_at is not None:
                with contextlib.suppress(OSError):
                    remove_if_dead(listened_at)
        unfit.append(name)
    if kept:
        _log.info("sockets of the process before are used", sockets=[_address(sock) for sock in kept])
    if manager is not None and unfit:
        for name in unfit:
            manager.tell("FDSTOREREMOVE=1", f"FDNAME={name}")
        manager.wait_until_heard()
    return KeptSockets(kept, admin)


def hand_over(manager: ServiceManager, sockets: Iterable[BoundSocket]) -> None:
    """Has systemd keep these sockets; those that it keeps already it recognises."""
    for one in sockets:
        # FDPOLL=0: an error waiting in a socket would count as its end, and systemd would close it.
        manager.tell("FDSTORE=1", f"FDNAME={_name(one.socket)}", "FDPOLL=0", fds=[one.socket.fileno()])


def _passed(environment: MutableMapping[str, str], first_fd: int) -> Iterator[_Passed]:
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    # The variables are inherited by whatever a process starts, but meant for one alone.
    if pid != str(os.getpid()) or not count.isdecimal():
        return
    named = names.split(":") if names else []
    for number in range(int(count)):
        yield _Passed(named[number] if number < len(named) else _UNNAMED, first_fd + number)


def _as_socket(fd: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        return None


def _is_udp(sock: socket.socket) -> bool:
    return sock.type is socket.SOCK_DGRAM and sock.family in (socket.AF_INET, socket.AF_INET6)


def _listens_at(sock: socket.socket) -> Path | None:
    """The path of a Unix socket that listens; None of any other."""
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        return None
    path = sock.getsockname()
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return Path(path) if listens and isinstance(path, str) and path else None


def _name(sock: socket.socket) -> str:
    """The same for the same address whatever the configuration, and without a colon, which separates names."""
    return f"udp-{_address(sock)}".replace(":", "_").replace(" ", "-")


def _address(sock: socket.socket) -> str:
    ip_address, port, *scope = sock.getsockname()
    interface = f"%{scope[1]}" if any(scope) else ""
    return f"{ip_address}{interface} {port}"
