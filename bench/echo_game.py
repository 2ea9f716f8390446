"""A game in which nothing goes uncounted: players send at a steady rate, the host answers each datagram."""

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from relayd.core.usage import Counts
from relayd.core.wire import (
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    decode_to_host,
    decode_to_player,
    encode_host_data,
    encode_ping,
    encode_player_data,
)

_PAYLOAD = bytes((1, 7, 7, 7, 7)).ljust(91, b"\7")
_PING_SECONDS = 0.5
_BUFFER_BYTES = 16 << 20
_SO_RCVBUFFORCE = 33
"""socket(7); Python has no name for it."""
_QUIET_CHECKS = 25
_QUIET_SECONDS = 0.02


class Keys(NamedTuple):
    """Tokens of a session."""

    session: int
    host: int
    players: tuple[int, ...]


class _Peer(asyncio.DatagramProtocol):
    """A socket connected to a port of the relay."""

    def __init__(self) -> None:
        self.sent = 0
        self.sent_bytes = 0
        self.heard = 0
        self.heard_bytes = 0
        """As long as the payloads were together."""
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        # What waited while a relay was being started comes all at once. Whoever may not force it gets what is allowed.
        sock: socket.socket = transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):
            with suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)

    def send(self, datagram: bytes) -> None:
        self.sent += 1
        self.sent_bytes += len(datagram)
        self.send_uncounted(datagram)

    def send_uncounted(self, datagram: bytes) -> None:
        if self.transport is not None:
            self.transport.sendto(datagram)

    def hear(self, payload: bytes) -> None:
        self.heard += 1
        self.heard_bytes += len(payload)


class _Host(_Peer):
    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        decoded = decode_to_host(data)
        if decoded is not None:
            self.hear(decoded[1])
            self.send(encode_host_data(self._keys.host, self._keys.session, *decoded))


class _Player(_Peer):
    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        payload = decode_to_player(data)
        if payload is not None:
            self.hear(payload)


class EchoGame:
    """One game on the running event loop.

    Args:
        keys: its tokens.
        per_second: datagrams that each player sends.
    """

    def __init__(self, keys: Keys, per_second: int) -> None:
        self._keys = keys
        self._per_second = per_second
        self._host = _Host(keys)
        self._players = [_Player() for _ in keys.players]
        self._playing = True

    def stop(self) -> None:
        """Ends it."""
        self._playing = False

    @property
    def heard(self) -> Counts:
        """What arrived, in bytes as it was when it arrived at the relay."""
        to_player = sum(player.heard for player in self._players)
        return Counts(
            self._host.heard,
            self._host.heard_bytes + self._host.heard * HEADER_BYTES,
            to_player,
            sum(player.heard_bytes for player in self._players) + to_player * HOST_DATA_HEADER_BYTES,
        )

    @property
    def sent(self) -> Counts:
        """What was sent."""
        return Counts(
            sum(player.sent for player in self._players),
            sum(player.sent_bytes for player in self._players),
            self._host.sent,
            self._host.sent_bytes,
        )

    async def play(self, server: tuple[str, int], client: tuple[str, int]) -> None:
        """Plays until `stop`, and then until nothing comes any more."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self._host, remote_addr=server)
        for player in self._players:
            await loop.create_datagram_endpoint(partial(_itself, player), remote_addr=client)
        ping = encode_ping(self._keys.host, self._keys.session)
        pinged_at, tick_at = -1.0, loop.time()
        while self._playing:
            if loop.time() - pinged_at > _PING_SECONDS:
                pinged_at = loop.time()
                self._host.send_uncounted(ping)
            for token, player in zip(self._keys.players, self._players, strict=True):
                player.send(encode_player_data(token, self._keys.session, _PAYLOAD))
            tick_at = max(tick_at + 1 / self._per_second, loop.time())
            await asyncio.sleep(tick_at - loop.time())
        await self._until_quiet()
        for peer in (self._host, *self._players):
            if peer.transport is not None:
                peer.transport.close()

    async def _until_quiet(self) -> None:
        quiet, heard = 0, self.heard
        while quiet < _QUIET_CHECKS:
            await asyncio.sleep(_QUIET_SECONDS)
            quiet = quiet + 1 if heard == self.heard else 0
            heard = self.heard


def _itself(player: _Player) -> _Player:
    return player
