"""The program that replaces this one in the same process, on the same sockets: whatever relayd is installed by then."""

import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_FIRST_FD = 3
"""sd_listen_fds(3): where those are that a process is given."""
_OUT_OF_THE_WAY = 100


class Successor:
    """Keeps the sockets open until this program is replaced.

    Args:
        sockets: duplicated, so that they stay open whatever becomes of these objects.
        environment: this process's as it was in the beginning.

    Raises:
        OSError: there is no such program any more, or no file descriptor is left: this one has to go on.
    """

    def __init__(self, sockets: Sequence[socket.socket], environment: Mapping[str, str]) -> None:
        # Checked now: after this program has ended it is too late.
        _check(sys.executable, os.X_OK)
        _check(sys.argv[0], os.R_OK)
        self._fds: list[int] = []
        try:
            for one in sockets:
                self._fds.append(fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY))
        except OSError:
            for fd in self._fds:
                os.close(fd)
            raise
        self._environment = dict(environment)

    def hold_reloads(self) -> None:
        """To be called while SIGHUP still has its handler: without one it would end the process."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def replace_this_program(self) -> NoReturn:
        """Does not return. All else that is open is closed by it.

        Raises:
            OSError: the program cannot be run any more.
        """
        for number, fd in enumerate(self._fds, _FIRST_FD):
            os.dup2(fd, number, inheritable=True)
        passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(self._fds))}
        unnamed = {name: value for name, value in self._environment.items() if name != "LISTEN_FDNAMES"}
        arguments = [sys.executable, *sys.orig_argv[1:]]
        # execve(2): what is ignored stays so, until the new program has its handler. It reads all there is anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        os.execve(sys.executable, arguments, unnamed | passed)  # noqa: S606 - what this process was started as


def _check(program: str, mode: int) -> None:
    Path(program).stat()
    if not os.access(program, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)
