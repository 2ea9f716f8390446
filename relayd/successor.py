"""The program that replaces this one in the same process, on the same sockets: whatever relayd is installed by then."""

import fcntl
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

_FIRST_FD = 3
"""sd_listen_fds(3): where those are that a process is given."""
_OUT_OF_THE_WAY = 100


class Successor:
    """Keeps the sockets open until it is time.

    Args:
        sockets: go on, whatever becomes of these objects.
        environment: this process's as it was in the beginning.
    """

    def __init__(self, sockets: Sequence[socket.socket], environment: Mapping[str, str]) -> None:
        self._fds = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for one in sockets]
        self._environment = dict(environment)

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
        os.execve(sys.executable, arguments, unnamed | passed)  # noqa: S606 - what this process was started as
