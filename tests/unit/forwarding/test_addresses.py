"""The host's addresses as the kernel lists them, message by message, and what follows where it lists none."""

import socket
import struct
from collections.abc import Iterator
from typing import Self

import pytest
from structlog.testing import capture_logs

from relayd.core.bad_sources import BadSources
from relayd.core.limits import Limits
from relayd.forwarding import addresses as module
from relayd.forwarding.addresses import OwnAddresses, local_addresses, reached_at
from relayd.settings import RelaySettings

NEW, ERROR, DONE = 20, 2, 3


def message(kind: int, body: bytes) -> bytes:
    """struct nlmsghdr and what follows, padded as rtnetlink(7) has it."""
    length = 16 + len(body)
    return (struct.pack("=IHHII", length, kind, 0, 1, 0) + body).ljust((length + 3) & ~3, b"\0")


def address(*attributes: tuple[int, str], family: int = socket.AF_INET, scope: int = 0, interface: int = 1) -> bytes:
    """IFA_ADDRESS is 1, IFA_LOCAL is 2."""
    body = struct.pack("=BBBBi", family, 24, 0, scope, interface)
    for kind, text in attributes:
        packed = socket.inet_pton(family, text) if family in (socket.AF_INET, socket.AF_INET6) else b"\1\2\3"
        body += (struct.pack("=HH", 4 + len(packed), kind) + packed).ljust((4 + len(packed) + 3) & ~3, b"\0")
    return message(NEW, body)


class Netlink:
    """Answers with these datagrams."""

    answers: list[bytes] = []  # noqa: RUF012 - the test's

    def __init__(self, *_: int) -> None:
        self._left: Iterator[bytes] = iter(self.answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def send(self, data: bytes) -> None: ...

    def recv(self, size: int) -> bytes:
        return next(self._left)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(socket, "socket", Netlink)
    return monkeypatch


def listed(kernel: pytest.MonkeyPatch, *answers: bytes) -> None:
    kernel.setattr(Netlink, "answers", list(answers))


def test_addresses_of_both_families_from_several_datagrams(kernel: pytest.MonkeyPatch) -> None:
    listed(
        kernel,
        address((1, "127.0.0.1"), (2, "127.0.0.1")) + address((1, "192.0.2.7"), (2, "192.0.2.7")),
        address((1, "2001:db8::7"), family=socket.AF_INET6),
        message(DONE, bytes(4)),
    )
    assert local_addresses() == ["127.0.0.1", "192.0.2.7", "2001:db8::7"]


def test_a_link_local_address_is_told_with_its_interface(kernel: pytest.MonkeyPatch) -> None:
    links = {2: "eth0"}

    def name_of(index: int) -> str:
        if index not in links:
            raise OSError(6, "No such device or address")
        return links[index]

    kernel.setattr(socket, "if_indextoname", name_of)
    listed(
        kernel,
        address((1, "fe80::7"), family=socket.AF_INET6, scope=253, interface=2),
        address((1, "fe80::8"), family=socket.AF_INET6, scope=253, interface=3),
        address((1, "169.254.0.1"), scope=253, interface=2) + message(DONE, bytes(4)),
    )
    assert local_addresses() == ["fe80::7%eth0", "fe80::8", "169.254.0.1"]


def test_on_a_point_to_point_link_its_own_end_counts(kernel: pytest.MonkeyPatch) -> None:
    listed(kernel, address((1, "10.0.0.2"), (2, "10.0.0.1")) + message(DONE, bytes(4)))
    assert local_addresses() == ["10.0.0.1"]


def test_what_is_no_ip_address_is_left_out(kernel: pytest.MonkeyPatch) -> None:
    listed(kernel, address((1, "x"), family=28) + address() + message(99, b"") + message(DONE, bytes(4)))
    assert local_addresses() == []


def test_an_error_is_one(kernel: pytest.MonkeyPatch) -> None:
    listed(kernel, message(ERROR, struct.pack("=i", -1)))
    with pytest.raises(OSError, match="does not list") as caught:
        local_addresses()
    assert caught.value.errno == 1


def test_this_hosts_own_list_can_be_read() -> None:
    assert all(":" in one or one.count(".") == 3 for one in local_addresses())


def reached(monkeypatch: pytest.MonkeyPatch, *bind: str) -> dict[str, str]:
    monkeypatch.setattr(module, "local_addresses", lambda: ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
    return reached_at(bind)


def test_a_socket_bound_to_all_is_reached_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached(monkeypatch, "0.0.0.0") == {"192.0.2.1": "0.0.0.0", "192.0.2.2": "0.0.0.0"}
    assert reached(monkeypatch, "::") == {"2001:db8::1": "::"}


def test_one_of_its_own_goes_before_one_bound_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached(monkeypatch, "0.0.0.0", "192.0.2.2") == {"192.0.2.1": "0.0.0.0", "192.0.2.2": "192.0.2.2"}


def test_a_link_local_address_is_reached_on_its_interface_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "local_addresses", lambda: ["fe80::1%eth0", "fe80::2%eth1"])
    assert reached_at(["fe80::1%eth0", "fe80::2%eth0"]) == {"fe80::1": "fe80::1%eth0"}
    assert reached_at(["::"]) == {"fe80::1": "::", "fe80::2": "::"}


def test_the_engine_follows_changes_and_keeps_what_it_knew_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["192.0.2.1"]
    monkeypatch.setattr(module, "local_addresses", lambda: found)
    bad_sources = BadSources(Limits())
    at_a_nat = "203.0.113.9"
    relay = RelaySettings(
        bind=["0.0.0.0"], server_port=1, client_port=2, public_ip=at_a_nat, public_server_port=3, public_client_port=4
    )
    own = OwnAddresses(bad_sources, relay)
    assert set(bad_sources.own_ports) == {1, 2, 3, 4}
    own.refresh()
    assert set(bad_sources.own_addresses) == {"192.0.2.1", at_a_nat}
    found.append("192.0.2.9")
    own.refresh()
    assert set(bad_sources.own_addresses) == {"192.0.2.1", "192.0.2.9", at_a_nat}

    def refused() -> list[str]:
        raise OSError(1, "no")

    monkeypatch.setattr(module, "local_addresses", refused)
    with capture_logs() as logs:
        own.refresh()
        own.refresh()
    assert len(logs) == 1, "said once, and not every second"
    assert set(bad_sources.own_addresses) == {"192.0.2.1", "192.0.2.9", at_a_nat}
