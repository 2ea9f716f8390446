"""Listening TCP sockets, and what is said where there can be none."""

import errno
import os
import socket

import pytest

from relayd.errors import UnavailableError
from relayd.http.tcp import listen


class Refusing(socket.socket):
    """Nothing can be bound."""

    failure = errno.EADDRNOTAVAIL
    opened: list["Refusing"] = []  # noqa: RUF012 - looked at by the test

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.opened.append(self)

    def bind(self, address: object, /) -> None:
        raise OSError(self.failure, os.strerror(self.failure))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_it_listens_and_blocks_nobody() -> None:
    port = free_port()
    with listen(f"127.0.0.1:{port}", "admin.bind") as sock, socket.create_connection(("127.0.0.1", port)) as client:
        assert not sock.getblocking()
        taken, address = sock.accept()
        assert address == client.getsockname()
        taken.close()


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (
            errno.EADDRINUSE,
            r"TCP port 9464 on 127\.0\.0\.1 \(admin\.bind\) is taken.*ss -ltnp.*admin\.bind, or RELAYD_ADMIN__BIND in",
        ),
        (errno.EADDRNOTAVAIL, r"TCP port 9464 on 127\.0\.0\.1 \(admin\.bind\).*Cannot assign requested address"),
        (errno.EACCES, r"\(admin\.bind\).*Permission denied"),
    ],
)
def test_one_that_cannot_be_bound_is_explained_and_closed(
    monkeypatch: pytest.MonkeyPatch, failure: int, says: str
) -> None:
    monkeypatch.setattr(Refusing, "failure", failure)
    monkeypatch.setattr(Refusing, "opened", [])
    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(UnavailableError, match=says):
        listen("127.0.0.1:9464", "admin.bind")
    assert [sock.fileno() for sock in Refusing.opened] == [-1]
