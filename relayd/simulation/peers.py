"""The peers of the simulated game. Like the real client, a player sends DATA first and PINGs once it is connected."""

import asyncio
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections import Counter, deque

from relayd.core.wire import (
    MAX_TOKEN,
    State,
    decode_state,
    decode_to_host,
    decode_to_player,
    encode_host_data,
    encode_ping,
    encode_player_data,
)
from relayd.simulation.payload import HELLO_SEQUENCE, Payload
from relayd.simulation.tally import Silence, Tally

TICKS_PER_SECOND = 30
PING_SECONDS = 0.5
HELLO_SECONDS = 0.1

# Payload sizes of a real game, in the proportions of its captured traffic: mostly short updates, some long ones.
_SIZES_BYTES = (37, 48, 53, 66, 48, 97, 37, 66, 120, 53, 48, 310)

_ROUND_TRIPS_KEPT = 2000
_RECEIVE_BUFFER_BYTES = 16 << 20
_SO_RCVBUFFORCE = 33
"""socket(7): as SO_RCVBUF, but CAP_NET_ADMIN may pass over rmem_max with it."""


class Peer(asyncio.DatagramProtocol, ABC):
    """A socket connected to one of the relay's ports, so that an answer from anywhere else would not be seen."""

    def __init__(self, user_token: int, session_token: int) -> None:
        self.user_token = user_token
        self.session_token = session_token
        self.state: State | None = None
        """What the relay last said of this peer."""
        self.states: Counter[State] = Counter()
        """How often it said what."""
        self.pings = 0
        self.unreachable = 0
        """ICMP errors: each would have ended a real game."""
        self.corrupted = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._pinged_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport to send by."""
        self._transport = transport  # type: ignore[assignment]
        # What waited while a relay was being restarted comes all at once.
        sock: socket.socket = transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        """Takes in a state or hands on a message."""
        state = decode_state(data)
        if state is None:
            self._message(data)
        else:
            self.state = state
            self.states[state] += 1

    @property
    def states_seen(self) -> set[State]:
        """All that the relay ever said of this peer."""
        return set(self.states)

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002
        """Counts an ICMP error."""
        self.unreachable += 1

    def close(self) -> None:
        """Closes the socket."""
        if self._transport is not None:
            self._transport.close()

    def tick(self, now: float) -> None:
        """PINGs when it is time to."""
        if now - self._pinged_at >= PING_SECONDS:
            self._pinged_at = now
            self.pings += 1
            self._send(encode_ping(self.user_token, self.session_token))

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(datagram)

    @abstractmethod
    def _message(self, data: bytes) -> None:
        """Takes in a datagram of the game."""


class Connection:
    """What the host knows of one player."""

    def __init__(self, connection_id: int, player: int) -> None:
        self.connection_id = connection_id
        self.player = player
        self.cookie = 1 + secrets.randbelow(MAX_TOKEN)
        self.playing = False
        self.sent = 0
        self.tally = Tally()
        self.silence = Silence()
        self.newest_sent_ns = 0
        self.newest_arrived_ns = 0


class Host(Peer):
    """The game server."""

    def __init__(self, user_token: int, session_token: int, game: int) -> None:
        super().__init__(user_token, session_token)
        self._game = game
        self.connections: dict[int, Connection] = {}
        """The newest connection of each player, by player number."""
        self._by_id: dict[int, Connection] = {}
        self._ticks = 0

    def all_connections(self) -> list[Connection]:
        """Every connection there ever was."""
        return list(self._by_id.values())

    def tick(self, now: float) -> None:
        """Sends every player its part of the game."""
        super().tick(now)
        self._ticks += 1
        for connection in self._by_id.values():
            if connection.playing:
                connection.sent += 1
                held_ns = time.monotonic_ns() - connection.newest_arrived_ns
                echo_ns = connection.newest_sent_ns + held_ns if connection.newest_sent_ns else 0
                size = _SIZES_BYTES[(connection.sent + connection.player) % len(_SIZES_BYTES)]
                self._say(connection, connection.sent, echo_ns, size)

    def _message(self, data: bytes) -> None:
        decoded = decode_to_host(data)
        payload = Payload.decode(decoded[1]) if decoded else None
        if decoded is None or payload is None or payload.game != self._game:
            self.corrupted += 1
            return
        connection = self._by_id.get(decoded[0])
        if connection is None:
            connection = Connection(decoded[0], payload.player)
            self._by_id[connection.connection_id] = self.connections[payload.player] = connection
        if payload.player != connection.player:
            self.corrupted += 1
        elif payload.sequence == HELLO_SEQUENCE:
            self._say(connection, HELLO_SEQUENCE, 0, 45)
        else:
            connection.playing = True
            connection.tally.arrived(payload.sequence)
            connection.silence.ends(time.monotonic())
            connection.newest_sent_ns = payload.sent_ns
            connection.newest_arrived_ns = time.monotonic_ns()

    def _say(self, connection: Connection, sequence: int, echo_ns: int, size_bytes: int) -> None:
        payload = Payload(
            connection.cookie, self._game, connection.player, sequence, time.monotonic_ns(), echo_ns
        ).encode(size_bytes)
        self._send(encode_host_data(self.user_token, self.session_token, connection.connection_id, payload))


class Player(Peer):
    """One player."""

    def __init__(self, user_token: int, session_token: int, game: int, number: int) -> None:
        super().__init__(user_token, session_token)
        self.number = number
        self.sent = 0
        self.tally = Tally()
        self.became_valid = False
        self.round_trips_seconds: deque[float] = deque(maxlen=_ROUND_TRIPS_KEPT)
        self._game = game
        self._cookie = 0
        self._hello_at = 0.0
        self.silence = Silence()
        """Of the host."""

    @property
    def connected(self) -> bool:
        """Whether the host has answered."""
        return self._cookie != 0

    def tick(self, now: float) -> None:
        """Knocks until the host answers, then plays."""
        if self.connected:
            super().tick(now)
            self.sent += 1
            self._say(self.sent, _SIZES_BYTES[(self.sent + self.number) % len(_SIZES_BYTES)])
        elif now - self._hello_at >= HELLO_SECONDS:
            self._hello_at = now
            self._say(HELLO_SEQUENCE, 45)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """As any peer, and notes that the relay let it in."""
        super().datagram_received(data, addr)
        self.became_valid |= self.state is State.VALID

    def _message(self, data: bytes) -> None:
        decoded = decode_to_player(data)
        payload = Payload.decode(decoded) if decoded else None
        if payload is None or payload.game != self._game or payload.player != self.number:
            self.corrupted += 1
            return
        self._cookie = payload.cookie
        if payload.sequence == HELLO_SEQUENCE:
            return
        self.tally.arrived(payload.sequence)
        self.silence.ends(time.monotonic())
        if payload.echo_ns:
            self.round_trips_seconds.append((time.monotonic_ns() - payload.echo_ns) / 1e9)

    def _say(self, sequence: int, size_bytes: int) -> None:
        payload = Payload(self._cookie, self._game, self.number, sequence, time.monotonic_ns(), 0).encode(size_bytes)
        self._send(encode_player_data(self.user_token, self.session_token, payload))
