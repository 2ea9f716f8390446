"""A service manager that a test plays: the real protocol of sd_notify(3), at the other end of a local socket."""

import asyncio
import os
import socket
from pathlib import Path
from typing import NamedTuple


class Message(NamedTuple):
    """What a manager was told at once."""

    lines: list[str]
    fds: list[int]


class ListeningManager:
    """Listens in that folder. Its socket has room for about ten messages (net.unix.max_dgram_qlen)."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._heard: list[Message] = []

    def read_along(self) -> None:
        """Has the running loop take messages in as they come."""
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def messages(self) -> list[Message]:
        """All since the last call; their file descriptors are the caller's to close."""
        self._take()
        heard, self._heard = self._heard, []
        return heard

    def _take(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            except BlockingIOError:
                return
            self._heard.append(Message(data.decode().splitlines(), list(fds)))

    def lines(self) -> list[str]:
        """The same without what came beside them."""
        found: list[str] = []
        for message in self.messages():
            found += message.lines
            for fd in message.fds:
                os.close(fd)
        return found

    def close(self) -> None:
        self._socket.close()
