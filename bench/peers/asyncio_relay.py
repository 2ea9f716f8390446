"""The relay that one writes in an afternoon: asyncio's own loop and protocol, a socket for each player.

``python asyncio_relay.py LISTEN_ADDRESS PORT HOST HOST_PORT [PORT HOST HOST_PORT …]``
"""

import asyncio
import socket
import sys
from functools import partial
from typing import Any


class ToHost(asyncio.DatagramProtocol):
    """A port for players: what a player sends goes to the host, from a socket that is that player's alone."""

    def __init__(self, host: tuple[str, int]) -> None:
        self.host = host
        self.sockets: dict[tuple[str, int], asyncio.DatagramTransport] = {}

    def connection_made(self, transport: Any) -> None:
        """Notes the port's socket, and asks for room in it."""
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """From a player."""
        if known := self.sockets.get(addr):
            known.sendto(data)
        else:
            self.task = asyncio.ensure_future(self.admit(data, addr))

    async def admit(self, data: bytes, player: tuple[str, int]) -> None:
        """Opens a socket for a new player."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: ToPlayer(self, player), remote_addr=self.host)
        self.sockets[player] = transport
        transport.sendto(data)


class ToPlayer(asyncio.DatagramProtocol):
    """What the host sends to a player's socket goes to that player."""

    def __init__(self, port: ToHost, player: tuple[str, int]) -> None:
        self.port, self.player = port, player

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        """From the host."""
        self.port.transport.sendto(data, self.player)


async def main(listen: str, *ports: str) -> None:
    """Relays until it is ended."""
    loop = asyncio.get_running_loop()
    for port, host, host_port in zip(ports[::3], ports[1::3], ports[2::3], strict=True):
        await loop.create_datagram_endpoint(partial(ToHost, (host, int(host_port))), (listen, int(port)))
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
