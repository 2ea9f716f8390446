"""Hosts and players that speak as the real ones do, as far as a relay can tell: KCP's cookie, time-outs, restarts.

What is said names its session, its user and the connection's cookie, so that whoever hears it can tell whether it is
meant. A player opens a connection with cookie 0; the host gives it one, and ignores what has another.
"""

import struct
from random import Random

from fuzz.faults.network import CLIENT, SERVER, Network, Owner
from fuzz.faults.schedule import Schedule
from relayd.core.endpoint import Endpoint
from relayd.core.wire import (
    State,
    decode_state,
    decode_to_host,
    decode_to_player,
    encode_host_data,
    encode_ping,
    encode_player_data,
)

_SAID = struct.Struct("<BIII")
KCP_TIMEOUT_SECONDS = 10.0


def said(cookie: int, session: int, user: int) -> bytes:
    """A payload of a connection with that cookie."""
    return _SAID.pack(1, cookie, session, user)


class Peer:
    """Somebody at an address, with tokens.

    Args:
        network: carries what it sends.
        schedule: the clock.
        random: chooses its rhythm and its cookies.
        session: its session's token.
        user: its own.
        interval_seconds: how often it says something.
    """

    endpoint: Endpoint

    def __init__(
        self, network: Network, schedule: Schedule, random: Random, session: int, user: int, interval_seconds: float
    ) -> None:
        self.session = session
        self.user = user
        self.interval_seconds = interval_seconds
        self.heard_at = self.since = schedule.now
        """When the connection was last known to work; before that, when it was begun."""
        self.valid_at: float | None = None
        """When the relay last said Valid."""
        self.refused: State | None = None
        """What the relay said last, if not Valid."""
        self.present = True
        self.muted_until = 0.0
        """Until when nothing of what it says gets out."""
        self._network = network
        self._schedule = schedule
        self._random = random
        self.address = network.new_address(Owner(session, user, self._receive))
        self._tick()

    def leave(self) -> None:
        """Stops without a word."""
        self.present = False
        self._network.leave(self.address)

    def move(self, same_ip: bool) -> None:
        """From another address from now on; what goes to the old one is lost."""
        ip = self.address[0] if same_ip else None
        self._network.leave(self.address)
        self.address = self._network.new_address(Owner(self.session, self.user, self._receive), ip)

    def flood(self, times: int) -> None:
        """Says all it has to say so many times at once."""
        for _ in range(times):
            self._speak()

    def _tick(self) -> None:
        if self.present:
            if self._schedule.now >= self.muted_until:
                self._speak()
            self._schedule.after(self.interval_seconds * self._random.uniform(0.8, 1.2), self._tick)

    def _send(self, datagram: bytes) -> None:
        self._network.send_to_relay(self.endpoint, datagram, self.address)

    def _receive(self, endpoint: Endpoint, datagram: bytes) -> None:
        assert endpoint is self.endpoint, "an answer left from another port than was asked"
        state = decode_state(datagram)
        if state is State.VALID:
            self.valid_at, self.refused = self._schedule.now, None
        elif state is not None:
            self.refused = state
        else:
            self._hear(datagram)

    def _speak(self) -> None:
        raise NotImplementedError

    def _hear(self, datagram: bytes) -> None:
        raise NotImplementedError


class Player(Peer):
    """Says something to the host at every tick, and reconnects when it hears nothing for too long."""

    endpoint = CLIENT
    _cookie = 0
    _ticks = 0

    def restart(self) -> None:
        """The program was ended and started again: another port, another connection."""
        self.move(same_ip=True)
        self._cookie = 0
        self.since = self._schedule.now

    def _speak(self) -> None:
        silent_since = max(self.heard_at, self.since)
        if self._schedule.now - silent_since > max(KCP_TIMEOUT_SECONDS, 3 * self.interval_seconds):
            self.restart()
        self._send(encode_player_data(self.user, self.session, said(self._cookie, self.session, self.user)))
        self._ticks += 1
        if self._ticks % 2 == 0:
            self._send(encode_ping(self.user, self.session))

    def _hear(self, datagram: bytes) -> None:
        payload = decode_to_player(datagram)
        assert payload is not None, "a player got what is neither state nor data"
        _, cookie, session, user = _SAID.unpack(payload)
        assert (session, user) == (self.session, self.user), "a player got what was meant for another"
        if self._cookie == 0:
            self._cookie = cookie
        if cookie == self._cookie:
            self.heard_at = self._schedule.now


class _Connection:
    """As the host knows it."""

    def __init__(self, user: int, cookie: int, now: float) -> None:
        self.user = user
        self.cookie = cookie
        self.heard_at = now
        self.stands = False
        """Whether the player has used the cookie: from then on, only time ends the connection."""


class Host(Peer):
    """Answers everybody who says something."""

    endpoint = SERVER

    def __init__(
        self, network: Network, schedule: Schedule, random: Random, session: int, user: int, interval_seconds: float
    ) -> None:
        self._connections: dict[int, _Connection] = {}
        super().__init__(network, schedule, random, session, user, interval_seconds)

    def restart(self) -> None:
        """The program was ended and started again: it knows nobody."""
        self.move(same_ip=True)
        self._connections.clear()

    def flood(self, times: int) -> None:
        """Sends to all its players, whether they are heard or not."""
        for connection_id, connection in list(self._connections.items()):
            for _ in range(times):
                self._answer(connection_id, connection)

    def _speak(self) -> None:
        self._send(encode_ping(self.user, self.session))

    def _answer(self, connection_id: int, connection: _Connection) -> None:
        payload = said(connection.cookie, self.session, connection.user)
        self._send(encode_host_data(self.user, self.session, connection_id, payload))

    def _hear(self, datagram: bytes) -> None:
        decoded = decode_to_host(datagram)
        assert decoded is not None, "a host got what is neither state nor data"
        connection_id, payload = decoded
        assert connection_id > 0, "no host takes such an id"
        _, cookie, session, user = _SAID.unpack(payload)
        assert session == self.session, "a host heard another session"
        connection = self._connection(connection_id, cookie, user)
        if connection is not None:
            self._answer(connection_id, connection)

    def _connection(self, connection_id: int, cookie: int, user: int) -> _Connection | None:
        """Whom to answer; None where it is ignored."""
        now = self._schedule.now
        known = self._connections.get(connection_id)
        assert known is None or known.user == user, "two players share a connection id"
        if known is None or now - known.heard_at > KCP_TIMEOUT_SECONDS + 3 * self.interval_seconds:
            if cookie:
                return None
            known = self._connections[connection_id] = _Connection(user, self._random.randrange(1, 1 << 32), now)
        elif cookie == known.cookie:
            known.stands = True
            known.heard_at = now
        elif cookie or known.stands:
            return None
        return known
