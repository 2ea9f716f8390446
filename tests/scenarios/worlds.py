"""Worlds without sockets: the core engine, and the naive relay that says what it should do."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from relayd.core.desired import Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.wire import Port
from tests.scenarios.play import Outcome, Places, Tokens, specs
from tests.scenarios.rig import FIRST_CONNECTION, PORTS
from tests.scenarios.scenario import PLAIN, Scenario
from tests.scenarios.steps import Peer
from tests.support.naive_relay import NaiveRelay
from tests.support.virtual_clock import VirtualClock

_MANY = 1 << 20


def limits_of(scenario: Scenario) -> dict[str, Any]:
    """[limits] of its relay."""
    return {**PLAIN, **scenario.limits}


class TableWorld:
    """What worlds have in common that own a table: who may be in the session, and the time.

    Args:
        scenario: whose limits, and who is authorized with which address.
        places: where peers are.
        clock: the time.
    """

    def __init__(self, scenario: Scenario, places: Places, clock: VirtualClock) -> None:
        self.tokens = Tokens()
        self.clock = clock
        self.places = places
        self.limits = Limits.model_validate(limits_of(scenario))
        self.table: Table
        self.engine: Engine
        self._named = {user: places.address(peer)[0] for user, peer in scenario.named.items()}
        self._revoked: set[int] = set()

    def make_table(self) -> None:
        ids = itertools.count(FIRST_CONNECTION)
        self.table = Table(self.limits, lambda: next(ids))
        self.engine = Engine(self.table)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.expire()

    def expire(self) -> None:
        """Ends what is due."""
        self.table.expire(self.clock(), _MANY)

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self.apply()

    def begin(self) -> None:
        self._revoked.clear()
        self.apply()

    def end(self) -> None:
        self.table.apply(Snapshot.of([]), self.clock())

    def apply(self) -> None:
        self.table.apply(Snapshot.of(specs(self.tokens, self._revoked, self._named)), self.clock())

    def drain(self, on: bool) -> None:
        self.engine.draining = on

    def fleet(self, peers: Sequence[Peer]) -> None:
        for _ in self.table.leave_relays({self.socket_of(peer) for peer in peers}, self.clock()):
            """At once."""
        self.expire()

    def socket_of(self, peer: Peer) -> tuple[str, int]:
        """IP address and UDP port of a peer."""
        ip, udp_port = self.places.address(peer)[:2]
        return ip, udp_port


class EngineWorld(TableWorld):
    """The core engine alone."""

    def __init__(self, scenario: Scenario, places: Places | None = None, clock: VirtualClock | None = None) -> None:
        super().__init__(scenario, places or Places(), clock or VirtualClock())
        self.make_table()
        self.engine.bad_sources.own_ports = PORTS.values()
        self.engine.bad_sources.own_addresses = self.places.relay.values()
        self._endpoints = [Endpoint(Port(number % 2), number) for number in range(4)]
        self.apply()

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        endpoint = self._endpoints[2 * (peer.family == 6) + port]
        action = self.engine.handle(endpoint, datagram, self.places.address(peer), self.clock())
        heard = (self.places.peer(action.to), action.datagram) if action.endpoint is not None else None
        return Outcome(action.verdict.label, heard)


class NaiveWorld:
    """The naive relay, which shares nothing with the engines but the table of verdicts."""

    def __init__(self, scenario: Scenario, places: Places | None = None, clock: VirtualClock | None = None) -> None:
        self.tokens = Tokens()
        self.clock = clock or VirtualClock()
        self._places = places or Places()
        self._named: Mapping[int, str] = {user: self._places.address(peer)[0] for user, peer in scenario.named.items()}
        self.relay = NaiveRelay(Limits.model_validate(limits_of(scenario)))
        self.relay.own_ports, self.relay.own_addresses = list(PORTS.values()), list(self._places.relay.values())
        self._endpoints = [Endpoint(Port(number % 2), number) for number in range(4)]
        self._ids = itertools.count(FIRST_CONNECTION)
        self._revoked: set[int] = set()
        self._apply()

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        endpoint = self._endpoints[2 * (peer.family == 6) + port]
        expected = self.relay.receive(endpoint, datagram, self._places.address(peer), self.clock())
        for key in list(self.relay.to_be_renewed):
            self.relay.learn_connection_id(key, next(self._ids))
        if expected.endpoint is None:
            return Outcome(expected.verdict.label, None)
        return Outcome(expected.verdict.label, (self._places.peer(expected.to), self.relay.sent(expected)))

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.relay.expire_all(self.clock())

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self._apply()

    def begin(self) -> None:
        self._revoked.clear()
        self._apply()

    def end(self) -> None:
        self.relay.apply({}, self.clock())

    def _apply(self) -> None:
        wanted = specs(self.tokens, self._revoked, self._named)
        self.relay.apply({one.session_id: one for one in wanted}, self.clock())

    def drain(self, on: bool) -> None:
        self.relay.draining = on

    def fleet(self, peers: Sequence[Peer]) -> None:
        self.relay.leave_relays([self._places.address(peer)[:2] for peer in peers], self.clock())
