"""What a service manager such as systemd is told: the protocol of sd_notify(3), as documented there.

A message is a datagram of lines ``VARIABLE=value`` to the UNIX socket that NOTIFY_SOCKET names, with file descriptors
beside it where the manager is to keep some (SCM_RIGHTS).
"""

import array
import asyncio
import os
import select
import socket
from collections.abc import MutableMapping, Sequence
from typing import Self

import structlog

_log = structlog.get_logger()

_PATIENCE_SECONDS = 1.0

BEATS_IN_TIME = 4
"""Beats within the watchdog's time: one that is late or lost does no harm."""


class ServiceManager:
    """The manager that started this process.

    Args:
        address: of its socket: a path, or ``@`` and an abstract name.
        watchdog_seconds: within which it wants ``WATCHDOG=1`` again and again; None where it does not watch.
    """

    def __init__(self, address: str, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Opened once, so that a process that has run out of file descriptors can still say that it lives.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Non-blocking: a slow manager must not hold up datagrams.
        self._socket.setblocking(False)
        self._problem: str | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self | None:
        """The manager that the environment names, None where it names none. Takes those variables out of it."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_usec = environment.pop("WATCHDOG_USEC", "")
        watchdog_pid = environment.pop("WATCHDOG_PID", "")
        if not address:
            return None
        if not address.startswith(("/", "@")):
            _log.warning("NOTIFY_SOCKET names no UNIX socket: the service manager is told nothing", address=address)
            return None
        watched = watchdog_usec.isdecimal() and watchdog_pid in ("", str(os.getpid()))
        return cls(address, int(watchdog_usec) / 1e6 if watched and int(watchdog_usec) else None)

    def tell(self, *lines: str, fds: Sequence[int] = ()) -> bool:
        """Sends one message. Returns whether the manager has it; a failure is logged once, and never raised.

        Args:
            lines: ``VARIABLE=value``, without line ends.
            fds: file descriptors to go with it.
        """
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg(["\n".join(lines).encode()], beside, 0, self._address)
        except OSError as error:
            if self._problem != str(error):
                _log.warning("the service manager could not be told", lines=lines, why=error.strerror)
            self._problem = str(error)
            return False
        self._problem = None
        return True

    async def watch_forever(self) -> None:
        """Says, from the event loop and for as long as it runs, that it does. Returns where nobody watches."""
        while self.watchdog_seconds is not None:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / BEATS_IN_TIME)

    def wait_until_heard(self) -> None:
        """Waits until the manager has done what it was told before: at most a second. See sd_notify_barrier(3)."""
        reading, writing = os.pipe()
        try:
            told = self.tell("BARRIER=1", fds=[writing])
        finally:
            os.close(writing)
        # The manager closes its end once it comes to this message.
        if told:
            closed = select.poll()
            closed.register(reading, 0)
            closed.poll(_PATIENCE_SECONDS * 1000)
        os.close(reading)

    def close(self) -> None:
        """Closes the socket: nothing more can be sent."""
        self._socket.close()
