"""Wires between the peers of a simulated game and sockets that have no network."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Any

import pytest

from relayd.core.endpoint import Address
from relayd.simulation.game import Game
from relayd.simulation.peers import Peer
from tests.support.sockets import FakeSocket


class Wire(asyncio.DatagramTransport):
    """One peer's. What it carries can be lost, changed or doubled on its way.

    Args:
        far: the relay's socket.
        address: the peer's.
        peer: what is read from the relay goes there.
    """

    def __init__(self, far: FakeSocket, address: Address, peer: Peer) -> None:
        super().__init__()
        self.to_relay: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.to_peer: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.peer = peer
        self.closed = False
        self._far = far
        self._address = address
        self._own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        far.wires[address] = self._from_relay

    def sendto(self, data: Any, addr: Any = None) -> None:
        for one in self.to_relay(bytes(data)):
            self._far.arrive(one, self._address)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._own if name == "socket" else default

    def close(self) -> None:
        self.closed = True
        self._own.close()

    def _from_relay(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for one in self.to_peer(data):
            loop.call_soon(self.peer.datagram_received, one, None)


def lay_wires(monkeypatch: pytest.MonkeyPatch, server: FakeSocket, client: FakeSocket) -> list[Wire]:
    """Has every simulated game connect its peers to these sockets. Gives the wires, as they come to be: the host's
    first.
    """
    wires: list[Wire] = []
    numbers = itertools.count(1)

    async def connect(_: Game, peer: Peer, address: tuple[str, int]) -> None:
        far = client if wires else server
        wire = Wire(far, (f"198.51.100.{next(numbers)}", 7000), peer)
        wires.append(wire)
        peer.connection_made(wire)

    monkeypatch.setattr(Game, "_connect", connect)
    return wires
