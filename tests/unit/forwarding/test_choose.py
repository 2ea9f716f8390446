"""Who serves the sockets: the thread where there is one, Python where it is asked for or there is no other way."""

import sys
from collections.abc import Iterator
from typing import Literal

import pytest
from structlog.testing import capture_logs

from relayd.errors import UnavailableError
from relayd.forwarding.choose import open_ports
from relayd.forwarding.python.udp import UdpPorts
from relayd.forwarding.sockets import BoundSocket
from tests.support.forwarders import FakeRecords
from tests.support.relays import Relay
from tests.support.sockets import fake_ports

PORTS = "relayd.forwarding.thread.ports"


class FakePorts:
    """In the place of the thread's."""

    failure: Exception | None = None

    def __init__(self, *arguments: object, **options: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.options = options


@pytest.fixture
def sockets() -> Iterator[list[BoundSocket]]:
    bound = fake_ports()
    yield bound
    for one in bound:
        one.socket.close()


def opened(mode: Literal["auto", "native", "python"], sockets: list[BoundSocket]) -> object:
    return open_ports(mode=mode, engine=Relay().engine, sockets=sockets, records=FakeRecords(), merge=True)


def test_python_where_it_is_asked_for(sockets: list[BoundSocket]) -> None:
    ports = opened("python", sockets)
    assert isinstance(ports, UdpPorts)


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_the_thread_where_there_is_one(
    sockets: list[BoundSocket], monkeypatch: pytest.MonkeyPatch, mode: Literal["auto", "native"]
) -> None:
    pytest.importorskip(PORTS)
    monkeypatch.setattr(f"{PORTS}.NativePorts", FakePorts)
    ports = opened(mode, sockets)
    assert isinstance(ports, FakePorts)


@pytest.mark.parametrize("failure", [OSError(24, "Too many open files"), ValueError("compiled for another version")])
def test_python_where_the_thread_cannot_be(
    sockets: list[BoundSocket], monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    pytest.importorskip(PORTS)
    monkeypatch.setattr(f"{PORTS}.NativePorts", FakePorts)
    monkeypatch.setattr(FakePorts, "failure", failure)
    with capture_logs() as logs:
        assert isinstance(opened("auto", sockets), UdpPorts)
    assert [line["why"] for line in logs] == [str(failure)]
    with pytest.raises(UnavailableError, match=r"relay\.forwarder"):
        opened("native", sockets)


def test_where_it_was_not_compiled_the_way_out_is_said(
    sockets: list[BoundSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PORTS, None)
    with capture_logs() as logs:
        assert isinstance(opened("auto", sockets), UdpPorts)
    assert "C compiler" in logs[0]["why"]
    with pytest.raises(UnavailableError, match="C compiler"):
        opened("native", sockets)


def test_a_thread_of_another_declaration_is_not_used(
    sockets: list[BoundSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(PORTS)
    monkeypatch.setattr(f"{PORTS}.LAYOUT", 1)
    with capture_logs() as logs:
        assert isinstance(opened("auto", sockets), UdpPorts)
    assert [line["why"] for line in logs] == [
        "its C part was compiled for another version of relayd: install relayd again"
    ]
    with pytest.raises(UnavailableError, match="install relayd again"):
        opened("native", sockets)
