"""Which address a datagram was sent to, on real sockets, and what is kept of it."""

import socket
from collections.abc import Iterator

import pytest

from relayd.forwarding.asked import ANCILLARY_BYTES, asked, ip_and_interface, leaving_from, local_of, tell_asked

LINK_LOCAL = socket.inet_pton(socket.AF_INET6, "febf::1")
GLOBAL = socket.inet_pton(socket.AF_INET6, "2001:db8::7")


@pytest.fixture(params=[(socket.AF_INET, "0.0.0.0", "127.0.0.7"), (socket.AF_INET6, "::", "::1")])
def relay(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    family, everywhere, ip = request.param
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((everywhere, 0))
        sock.settimeout(90)
        tell_asked(sock)
        yield sock, ip


def test_an_answer_leaves_from_the_address_that_was_asked(relay: tuple[socket.socket, str]) -> None:
    sock, ip = relay
    with socket.socket(sock.family, socket.SOCK_DGRAM) as peer:
        peer.settimeout(90)
        peer.connect((ip, sock.getsockname()[1]))
        peer.send(b"question")
        data, ancillary, _, source = sock.recvmsg(100, ANCILLARY_BYTES)
        local = asked(ancillary)
        assert local is not None
        assert (data, ip_and_interface(local)) == (b"question", (socket.inet_pton(sock.family, ip), 0))
        sock.sendmsg((b"answer",), leaving_from(local), 0, source)
        assert peer.recv(100) == b"answer"


def test_a_socket_with_one_address_is_not_asked() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        tell_asked(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, 8) == 0


def test_what_came_before_the_socket_was_to_say_it_says_nothing() -> None:
    assert asked([(socket.IPPROTO_IP, 8, bytes(8) + b"\x7f\0\0\1")]) is None
    assert asked([]) is None


def test_the_interface_is_kept_of_a_link_local_address_alone() -> None:
    assert ip_and_interface(local_of(LINK_LOCAL, 3)) == (LINK_LOCAL, 3)
    assert ip_and_interface(local_of(GLOBAL, 3)) == (GLOBAL, 0)
