"""Opening the relay's sockets on a host that gives, or does not give, what is asked for."""

import errno
import os
import socket
import struct
from typing import Any

import pytest

from relayd.core.views import SocketMemory
from relayd.core.wire import Port
from relayd.errors import UnavailableError
from relayd.forwarding.sockets import fits, memory_of, open_sockets
from relayd.settings import RelaySettings
from tests.support.sockets import fake_ports

_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32


class Host:
    """What the kernel says of sockets on it."""

    def __init__(self) -> None:
        self.opened: list[Sock] = []
        self.failures: dict[tuple[str, int], int] = {}
        """errno of a bind."""
        self.without_ipv6 = False
        self.privileged = True
        self.most_bytes = 1 << 30
        """Of a buffer, without privileges."""


class Sock:
    """A socket of that host."""

    host: Host

    def __init__(self, family: int, kind: int = socket.SOCK_DGRAM) -> None:
        if self.host.without_ipv6 and family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self.family, self.type = family, kind
        self.name: tuple[Any, ...] = ()
        self.options: dict[tuple[int, int], int] = {}
        self.closed = False
        self.blocking = True
        self.host.opened.append(self)

    def setblocking(self, blocking: bool) -> None:
        self.blocking = blocking

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if level == socket.SOL_SOCKET and option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            if not self.host.privileged:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            option = socket.SO_RCVBUF if option == _SO_RCVBUFFORCE else socket.SO_SNDBUF
            self.options[level, option] = 2 * value
            return
        if level == socket.SOL_SOCKET:
            value = 2 * min(value, self.host.most_bytes)  # socket(7): the kernel doubles it
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        return self.options.get((level, option), 0)

    def bind(self, name: tuple[Any, ...]) -> None:
        failure = self.host.failures.get((name[0], name[1]))
        if failure is not None:
            raise OSError(failure, os.strerror(failure))
        self.name = name

    def getsockname(self) -> tuple[Any, ...]:
        return self.name if self.family == socket.AF_INET else (*self.name, 0, 0)[:4]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    one = Host()
    monkeypatch.setattr(Sock, "host", one, raising=False)
    monkeypatch.setattr(socket, "socket", Sock)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (7, "eth0")])
    return one


def settings(*bind: str, **more: Any) -> RelaySettings:
    return RelaySettings.model_validate({"bind": list(bind) or ["0.0.0.0", "::"], **more})


def test_two_for_each_address_numbered_in_pairs(host: Host) -> None:
    bound, warnings = open_sockets(settings("192.0.2.1", "2001:db8::1"))
    assert warnings == []
    assert [(one.endpoint.number, one.endpoint.port, one.socket.getsockname()[:2]) for one in bound] == [
        (0, Port.SERVER, ("192.0.2.1", 32000)),
        (1, Port.CLIENT, ("192.0.2.1", 32001)),
        (2, Port.SERVER, ("2001:db8::1", 32000)),
        (3, Port.CLIENT, ("2001:db8::1", 32001)),
    ]
    assert [sock.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) for sock in host.opened] == [None, None, 1, 1]
    assert not any(sock.blocking for sock in host.opened)


def test_a_link_local_address_is_bound_to_on_its_interface(host: Host) -> None:
    bound, _ = open_sockets(settings("fe80::1%eth0"))
    assert [one.socket.getsockname() for one in bound] == [("fe80::1", 32000, 0, 7), ("fe80::1", 32001, 0, 7)]
    assert fits(bound[0].socket, settings("fe80::1%eth0"))
    assert not fits(bound[0].socket, settings("fe80::1%lo"))
    assert not fits(bound[0].socket, settings("fe80::1%eth1"))


def test_an_interface_that_is_not_there_is_named(host: Host) -> None:
    with pytest.raises(UnavailableError, match=r"UDP port 32000 on fe80::1%eth1 .*no such interface; `ip link` lists"):
        open_sockets(settings("fe80::1%eth1"))
    assert all(sock.closed for sock in host.opened)


def test_marks_are_set_in_each_familys_own_field(host: Host) -> None:
    open_sockets(settings(dscp=46))
    assert host.opened[0].options[socket.IPPROTO_IP, socket.IP_TOS] == 46 << 2
    assert host.opened[2].options[socket.IPPROTO_IPV6, socket.IPV6_TCLASS] == 46 << 2


def test_buffers_that_are_not_given_in_full_are_a_warning_each_with_the_way_out(host: Host) -> None:
    host.privileged, host.most_bytes = False, 200_000
    _, warnings = open_sockets(settings(receive_buffer_bytes=4_000_000, send_buffer_bytes=300_000))
    assert len(warnings) == 2, "once, and not for each of four sockets"
    assert "receive buffer is 200000 bytes instead of 4000000" in warnings[0]
    assert "sysctl -w net.core.rmem_max=4000000" in warnings[0]
    assert "net.core.wmem_max=300000" in warnings[1]


def test_whoever_may_gets_more_than_the_host_gives_others(host: Host) -> None:
    host.most_bytes = 200_000
    assert open_sockets(settings(receive_buffer_bytes=4_000_000))[1] == []


def test_a_host_without_ipv6_serves_ipv4_alone_if_nobody_asked_for_more(host: Host) -> None:
    host.without_ipv6 = True
    bound, warnings = open_sockets(settings())
    assert len(bound) == 2
    assert len(warnings) == 1
    assert "no IPv6 on this host" in warnings[0]


@pytest.mark.parametrize("bind", [["::"], ["192.0.2.1", "2001:db8::1"]])
def test_ipv6_that_was_asked_for_and_is_not_there_ends_it(host: Host, bind: list[str]) -> None:
    host.without_ipv6 = True
    with pytest.raises(UnavailableError, match="UDP port 32000"):
        open_sockets(settings(*bind))
    assert all(sock.closed for sock in host.opened)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (errno.EADDRINUSE, "is taken.*ss -lunp sport = :32001"),
        (errno.EACCES, "CAP_NET_BIND_SERVICE"),
        (errno.EPERM, "Operation not permitted"),
        (errno.ENOBUFS, "No buffer space available"),
    ],
)
def test_what_cannot_be_bound_is_explained_and_nothing_stays_open(host: Host, failure: int, says: str) -> None:
    host.failures["192.0.2.1", 32001] = failure
    with pytest.raises(UnavailableError, match=rf"UDP port 32001 on 192\.0\.2\.1.*{says}"):
        open_sockets(settings("192.0.2.1"))
    assert len(host.opened) == 2
    assert all(sock.closed for sock in host.opened)


def kept(host: Host, ip: str, port: int, kind: int = socket.SOCK_DGRAM, v6only: bool = True) -> Any:
    sock = Sock(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)
    sock.bind((ip, port))
    sock.options[socket.IPPROTO_IPV6, socket.IPV6_V6ONLY] = int(v6only)
    return sock


def test_sockets_of_the_process_before_take_the_place_of_new_ones(host: Host) -> None:
    old: Any = kept(host, "192.0.2.1", 32001)
    bound, _ = open_sockets(settings("192.0.2.1", dscp=10), [old])
    assert bound[1].socket is old
    assert len(host.opened) == 2
    assert host.opened[0].options[socket.IPPROTO_IP, socket.IP_TOS] == 40, "what is asked of it may have changed since"


def test_which_sockets_fit(host: Host) -> None:
    wanted = settings("192.0.2.1", "2001:db8::1")
    assert fits(kept(host, "192.0.2.1", 32000), wanted)
    assert fits(kept(host, "2001:db8::1", 32001), wanted)
    assert not fits(kept(host, "192.0.2.2", 32000), wanted)
    assert not fits(kept(host, "192.0.2.1", 32002), wanted)
    assert not fits(kept(host, "192.0.2.1", 32000, socket.SOCK_STREAM), wanted)
    assert not fits(kept(host, "2001:db8::1", 32001, v6only=False), wanted)


def test_what_the_kernel_keeps_for_them_and_nothing_of_those_that_are_closed() -> None:
    bound = fake_ports()
    assert [(port, memory.receive_overflows) for port, memory in memory_of(bound)] == [
        (Port.SERVER, 0),
        (Port.CLIENT, 0),
    ]
    bound[0].socket.close()
    assert [port for port, _ in memory_of(bound)] == [Port.CLIENT]
    bound[1].socket.close()


def test_each_number_of_the_kernel_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """SK_MEMINFO of linux/sock_diag.h: received, its buffer, to send, its buffer, four others, and what was dropped."""
    bound = fake_ports()
    numbers = struct.pack("9I", *range(10, 19))
    monkeypatch.setattr(type(bound[0].socket), "getsockopt", lambda *_: numbers, raising=False)
    of_each = SocketMemory(10, 11, 12, 13, 18)
    assert memory_of(bound) == [(Port.SERVER, of_each), (Port.CLIENT, of_each)]
    for one in bound:
        one.socket.close()


def test_an_address_that_is_away_is_bound_to_all_the_same(host: Host) -> None:
    open_sockets(settings("192.0.2.1", "2001:db8::1", "0.0.0.0"))
    free = [(15, socket.IPPROTO_IP), (78, socket.IPPROTO_IPV6)]
    asked = [[one for one, level in free if sock.options.get((level, one)) == 1] for sock in host.opened]
    assert asked == [[15], [15], [78], [78], [], []]
