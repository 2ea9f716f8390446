"""One datagram in, one action out: the whole behaviour of the relay towards its peers.

Read `handle` from top to bottom: well-formed? known? bound, or to be bound? then answer or forward.
"""

from typing import NamedTuple

from relayd.core.counters import Counters, Traffic
from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.guesses import Guesses
from relayd.core.limits import RefusalLimiter
from relayd.core.lookups import Lookups
from relayd.core.meter import SILENT_SECONDS
from relayd.core.probation import Place
from relayd.core.session import Binding, Session, User
from relayd.core.table import Table
from relayd.core.verdict import REFUSAL_STATE, Verdict
from relayd.core.wire import (
    DATA,
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    PING,
    STATE_DATAGRAM,
    TO_PLAYER_HEADER,
    Port,
    State,
    connection_id,
    opens_connection,
    unpack_header,
)


class Action(NamedTuple):
    """What became of a datagram, and what is to be sent because of it."""

    verdict: Verdict
    endpoint: Endpoint | None = None
    """The socket to send from; None when nothing is to be sent."""
    to: Address = ()
    datagram: bytes = b""
    player: Binding | None = None
    """The player a forwarded datagram was counted for."""
    local: Local | None = None
    """The address of this host to send from; None where the socket has only one, or the kernel is to choose."""


_DROP = {verdict: Action(verdict) for verdict in Verdict}
_VALID = STATE_DATAGRAM[State.VALID]


class Engine:
    """The relay's behaviour over a table. `draining` refuses sessions that have nobody bound yet.

    Args:
        table: the table.
        lookups: where unknown pairs are asked about; None where there is nobody to ask.
    """

    def __init__(self, table: Table, lookups: Lookups | None = None) -> None:
        self.table = table
        self.counters = Counters()
        self.draining = False
        self.lookups = lookups
        self.bad_sources = table.bad_sources
        self.guesses = Guesses(table.limits)
        self._limits = table.limits
        self._refusals = RefusalLimiter(table.limits)

    def handle(
        self, endpoint: Endpoint, data: bytes, source: Address, now: float, local: Local | None = None
    ) -> Action:
        """Decides on one datagram and counts it.

        Args:
            endpoint: the socket it arrived at.
            data: its UDP payload, of any length and content.
            source: who sent it.
            now: seconds, from a clock that never goes back.
            local: the address of this host that it was sent to; None where the socket has only one.

        Returns:
            The verdict and, if `Action.endpoint` is set, what to send. If that cannot be sent, say so by `unsent`.
        """
        action = self._decide(endpoint, data, source, now, local)
        counters = self.counters
        counters.datagrams[endpoint.port][action.verdict] += 1
        counters.bytes[endpoint.port][action.verdict] += len(data)
        return action

    def unsent(self, endpoint: Endpoint, size_bytes: int, action: Action, reason: Verdict) -> None:
        """Corrects the counts for an action whose datagram the kernel did not take.

        Args:
            endpoint: where the datagram that led to it arrived.
            size_bytes: length of that datagram.
            action: what `handle` gave.
            reason: SEND_QUEUE_FULL or SEND_FAILED.
        """
        port = endpoint.port
        if action.verdict is Verdict.FORWARDED or action.verdict is Verdict.ANSWERED:
            for verdict, sign in ((action.verdict, -1), (reason, 1)):
                self.counters.datagrams[port][verdict] += sign
                self.counters.bytes[port][verdict] += sign * size_bytes
        else:
            self.counters.refusals_told[port][State(action.datagram[1])] -= 1
        if action.player is not None:
            traffic = action.player.traffic
            if port is Port.CLIENT:
                traffic.to_host_datagrams -= 1
                traffic.to_host_bytes -= size_bytes
            else:
                traffic.to_player_datagrams -= 1
                traffic.to_player_bytes -= size_bytes
            action.player.user.session.count_drop(reason)

    def forwarded(self) -> Traffic:
        """What the whole relay forwarded so far."""
        total = Traffic()
        total.to_host_datagrams = self.counters.datagrams[Port.CLIENT][Verdict.FORWARDED]
        total.to_host_bytes = self.counters.bytes[Port.CLIENT][Verdict.FORWARDED]
        total.to_player_datagrams = self.counters.datagrams[Port.SERVER][Verdict.FORWARDED]
        total.to_player_bytes = self.counters.bytes[Port.SERVER][Verdict.FORWARDED]
        return total

    def _decide(self, endpoint: Endpoint, data: bytes, source: Address, now: float, local: Local | None) -> Action:
        size = len(data)
        if size < HEADER_BYTES:
            return self._drop(Verdict.TOO_SHORT, endpoint, data, source, now)
        if size > MAX_DATAGRAM_BYTES:
            return self._drop(Verdict.TOO_LONG, endpoint, data, source, now)
        user_token, session_token, kind = unpack_header(data)
        port = endpoint.port
        if kind == DATA:
            header_bytes = HEADER_BYTES if port is Port.CLIENT else HOST_DATA_HEADER_BYTES
            if size <= header_bytes:
                malformed = Verdict.NO_PAYLOAD if size == header_bytes else Verdict.TOO_SHORT
                return self._drop(malformed, endpoint, data, source, now)
        elif kind != PING:
            return self._drop(Verdict.UNKNOWN_TYPE, endpoint, data, source, now)

        session = self.table.by_token.get(session_token)
        user = session.users.get(user_token) if session is not None else None
        if session is None or user is None:
            return self._stranger(session, user_token, session_token, endpoint, data, source, now, local)

        binding = user.client_binding if port is Port.CLIENT else user.server_binding
        if binding is None or binding.address != source or binding.endpoint is not endpoint:
            admitted = self._admit(user, binding, endpoint, source, now, local)
            if isinstance(admitted, Verdict):
                return self._refuse(admitted, endpoint, data, source, now, local, session)
            binding = admitted
        binding.last_seen = now
        binding.local = local
        for meter in (binding.meter, session.meter):
            if meter is not None and not meter.take(size, now):
                return self._refuse(Verdict.RATE_LIMITED, endpoint, data, source, now, local, session)
        if kind == PING:
            binding.note_ping(now)
            return Action(Verdict.ANSWERED, endpoint, source, _VALID, local=local)
        if port is Port.SERVER:
            return self._to_player(session, endpoint, data, source, now, local)
        if binding.connection_undecided:
            self.table.decide_connection(binding, opens_connection=opens_connection(data))
        return self._to_host(session, binding, data, now)

    def _stranger(
        self,
        session: Session | None,
        user_token: int,
        session_token: int,
        endpoint: Endpoint,
        data: bytes,
        source: Address,
        now: float,
        local: Local | None,
    ) -> Action:
        """Turns a pair away that is not in the table; it may be on its way into it."""
        if self.bad_sources.is_bad(source):
            return self._refuse(Verdict.BAD_SOURCE, endpoint, data, source, now, local, session)
        if session is None:
            ended = self.table.ended_recently(session_token, now)
            verdict = Verdict.SESSION_ENDED if ended else Verdict.UNKNOWN_PAIR
            return self._refuse(verdict, endpoint, data, source, now, local)
        revoked = session.was_revoked(user_token, now)
        if not revoked and not self.guesses.note(session, user_token, source[0], now):
            session.count_drop(Verdict.UNKNOWN_PAIR)
            return self._drop(Verdict.UNKNOWN_PAIR, endpoint, data, source, now)
        return self._refuse(Verdict.UNKNOWN_PAIR, endpoint, data, source, now, local, session)

    def _to_host(self, session: Session, player: Binding, data: bytes, now: float) -> Action:
        host = session.host
        if host is None:
            session.count_drop(Verdict.NO_HOST)
            return self._drop(Verdict.NO_HOST, player.endpoint, data, player.address, now)
        if not self._takes(host, data, now):
            verdict = Verdict.RATE_LIMITED
            return self._refuse(verdict, player.endpoint, data, player.address, now, player.local, session)
        player.traffic.to_host_datagrams += 1
        player.traffic.to_host_bytes += len(data)
        datagram = player.user.to_host_header + data[HEADER_BYTES:]
        return Action(Verdict.FORWARDED, host.endpoint, host.address, datagram, player, host.local)

    def _to_player(
        self, session: Session, endpoint: Endpoint, data: bytes, source: Address, now: float, local: Local | None
    ) -> Action:
        user = session.players.get(connection_id(data))
        player = user.client_binding if user is not None else None
        if player is None:
            session.count_drop(Verdict.UNKNOWN_CONNECTION)
            return self._drop(Verdict.UNKNOWN_CONNECTION, endpoint, data, source, now)
        if not self._takes(player, data, now):
            return self._refuse(Verdict.RATE_LIMITED, endpoint, data, source, now, local, session)
        player.traffic.to_player_datagrams += 1
        player.traffic.to_player_bytes += len(data)
        datagram = TO_PLAYER_HEADER + data[HOST_DATA_HEADER_BYTES:]
        return Action(Verdict.FORWARDED, player.endpoint, player.address, datagram, player, player.local)

    def _takes(self, receiver: Binding, data: bytes, now: float) -> bool:
        """Whether so much may be sent to a peer, which is little while it is not heard."""
        silent = now - receiver.last_seen >= SILENT_SECONDS and self._silence(receiver, now) >= SILENT_SECONDS
        return not silent or receiver.takes_while_silent(len(data), now)

    def _admit(
        self,
        user: User,
        binding: Binding | None,
        endpoint: Endpoint,
        source: Address,
        now: float,
        local: Local | None,
    ) -> Binding | Verdict:
        """Binds or moves a user to where it was just heard, or says why not."""
        if self.bad_sources.is_bad(source):
            return Verdict.BAD_SOURCE
        # Before anything whose outcome would tell that the token is right.
        if self.guesses.holds_back(user, endpoint.port, source, now):
            return Verdict.GUESS_LIMITED
        if self._limits.pin_ip and source[0] != user.ip_address:
            return Verdict.ADDRESS_REFUSED
        if endpoint.port is Port.SERVER and not self.table.may_host(user):
            return Verdict.HOST_CONFLICT
        named, place = user.is_named(source[0]), Place(endpoint, source)
        if binding is not None:
            probation = binding.probation_at(now)
            former = probation.at(place) if probation is not None else None
            if probation is not None and former is not None:
                self.table.move_back(binding, probation, former, now, local)
                return binding
            wins = named and not user.is_named(binding.address[0])
            least = SILENT_SECONDS if now < user.contested_until else self._limits.rebind_after
            if not wins and self._silence(binding, now) < least:
                return Verdict.ADDRESS_CONFLICT
            self.table.move(binding, endpoint, source, now, local)
            return binding
        session = user.session
        host = session.host if endpoint.port is Port.SERVER else None
        if host is not None and not self._may_replace(host, user, now):
            return Verdict.HOST_CONFLICT
        if self.draining and session.bound == 0:
            return Verdict.DRAINING
        if host is not None:
            self.table.replace_host(host, now)
        elif self._limits.max_bound_users and sum(self.table.bound) >= self._limits.max_bound_users:
            return Verdict.RELAY_FULL
        return self.table.bind(user, endpoint, source, now, local)

    def _may_replace(self, host: Binding, user: User, now: float) -> bool:
        """Whether a user becomes host though another one is."""
        return self.table.takes_over(user) or self._silence(host, now) >= self._limits.host_timeout

    def _silence(self, binding: Binding, now: float) -> float:
        """Seconds since a binding was last heard by any engine; another engine may have heard it after `now`."""
        return max(0.0, now - self.table.presence.silence_begins(binding, now))

    def _refuse(
        self,
        verdict: Verdict,
        endpoint: Endpoint,
        data: bytes,
        source: Address,
        now: float,
        local: Local | None,
        session: Session | None = None,
    ) -> Action:
        """Drops a datagram and, where its sender should know and the rate allows it, says why."""
        if session is not None:
            session.count_drop(verdict)
        # An unknown pair is asked about even if its sender is not told: strangers must not keep a player out.
        unknown = verdict is Verdict.UNKNOWN_PAIR
        state = self._state_of_unknown(data, now) if unknown else REFUSAL_STATE.get(verdict)
        dropped = self._drop(verdict, endpoint, data, source, now)
        if state is None or not self._refusals.allows(source[0], now):
            return dropped
        self.counters.refusals_told[endpoint.port][state] += 1
        return Action(verdict, endpoint, source, STATE_DATAGRAM[state], local=local)

    def _drop(self, verdict: Verdict, endpoint: Endpoint, data: bytes, source: Address, now: float) -> Action:
        """Drops a datagram, and notes it in the history."""
        self.table.history.refused(verdict, endpoint.port, data, source, now)
        return _DROP[verdict]

    def _state_of_unknown(self, data: bytes, now: float) -> State:
        user_token, session_token, _ = unpack_header(data)
        session = self.table.by_token.get(session_token)
        if session is not None and session.was_revoked(user_token, now):
            return State.INVALID
        if self.lookups is not None:
            return self.lookups.state_of(user_token, session_token, now)
        return State.INVALID if self.table.loaded else State.CHECKING
