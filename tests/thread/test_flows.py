"""Which flow a datagram finds, and what is counted for it: against a dictionary, through growth and many removals."""

import random
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import pytest

from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.thread import compiled
from tests.thread.rig import VALID, C, Rig, S, received

pytestmark = compiled.needs_native

ROUNDS = 30
CHANGES = 500
"""A round. A map begins with 1,024 places and grows when half of them are taken."""
SAMPLE = 48

Tokens = Iterator[int]
T = TypeVar("T")


def random_tokens(chance: random.Random) -> Tokens:
    while True:
        yield chance.randrange(1 << 32)


def tokens_in_order(chance: random.Random) -> Tokens:
    return count(1)


def tokens_alike_below(chance: random.Random) -> Tokens:
    """They differ in their upper bits alone, which a mask would throw away."""
    return count(0, 1 << 16)


@dataclass
class Model:
    """One flow as the dictionary has it."""

    peer: socket.socket
    port: Port
    user: int
    session: int
    connection_id: int
    counts: list[int] = field(default_factory=lambda: [0] * 6)


class Twins:
    """The forwarder and the dictionaries, changed together."""

    def __init__(self, rig: Rig, chance: random.Random, tokens: Tokens) -> None:
        self.rig = rig
        self.chance = chance
        self._tokens = tokens
        self._peers = [rig.peer() for _ in range(6)]
        self._ids = count(1)
        self.flows: dict[int, Model] = {}
        self.pairs: dict[tuple[Port, int, int], Model] = {}
        self.hosts: dict[int, Model] = {}
        self.players: dict[tuple[int, int], Model] = {}
        self.gone: list[Model] = []
        self._sessions: list[int] = []

    def change(self) -> None:
        if self.flows and self.chance.random() < 0.4:
            self.remove(self.chance.choice(list(self.flows)))
        else:
            self.add()

    def add(self) -> None:
        port = C if self._sessions and self.chance.random() < 0.8 else S
        if port is S:
            session = next(self._tokens) & 0xFFFF_FFFF
            self._sessions.append(session)
        else:
            session = self.chance.choice(self._sessions)
        user = next(self._tokens) & 0xFFFF_FFFF
        if (port, user, session) in self.pairs or (port is S and session in self.hosts):
            return
        one = Model(self.chance.choice(self._peers), port, user, session, next(self._ids) if port is C else 0)
        slot = self.rig.bind(one.peer, port, user, session, one.connection_id)
        assert slot not in self.flows
        self.flows[slot] = self.pairs[port, user, session] = one
        if port is S:
            self.hosts[session] = one
        else:
            self.players[session, one.connection_id] = one

    def remove(self, slot: int) -> None:
        one = self.flows.pop(slot)
        assert self.rig.forwarder.remove(slot) == tuple(one.counts)
        with pytest.raises(KeyError):
            self.rig.forwarder.counts(slot)
        del self.pairs[one.port, one.user, one.session]
        if one.port is S:
            del self.hosts[one.session]
        else:
            del self.players[one.session, one.connection_id]
        self.gone.append(one)

    def try_some(self, number: int) -> None:
        """Sends datagrams of flows that are there and of some that are gone."""
        passed_up: list[bytes] = []
        expected: dict[socket.socket, list[bytes]] = {peer: [] for peer in self._peers}
        picked = self._some(self.flows.values(), SAMPLE) + self._some(self.gone, SAMPLE // 4)
        for index, one in enumerate(picked):
            payload = b"%d %d" % (number, index)
            datagram, receiver, out = self._try(one, payload)
            self.rig.send(one.peer, one.port, datagram)
            if receiver is None:
                passed_up.append(datagram)
            else:
                expected[receiver].append(out)
        for port in (S, C):
            self.rig.fence(port)
        for peer, datagrams in expected.items():
            # What goes to players and what goes to hosts may cross.
            assert sorted(received(peer, len(datagrams))) == sorted(datagrams)
        assert sorted(data for _, data, _ in self.rig.drain()) == sorted(passed_up)
        for slot, one in self._some(self.flows.items(), SAMPLE):
            assert self.rig.forwarder.counts(slot) == tuple(one.counts)

    def _some(self, of: Iterable[T], most: int) -> list[T]:
        found = list(of)
        return self.chance.choices(found, k=most) if found else []

    def _try(self, one: Model, payload: bytes) -> tuple[bytes, socket.socket | None, bytes]:
        """A datagram, who has to hear of it if anybody, and what."""
        there = self.pairs.get((one.port, one.user, one.session))
        there = there if there is not None and there.peer is one.peer else None
        if self.chance.random() < 0.2:
            return encode_ping(one.user, one.session), one.peer if there else None, VALID
        if one.port is C:
            datagram = encode_player_data(one.user, one.session, payload)
            host = self.hosts.get(one.session)
            if there is None or host is None:
                return datagram, None, b""
            there.counts[0] += 1
            there.counts[1] += len(datagram)
            return datagram, host.peer, b"\x02" + there.connection_id.to_bytes(4, "little") + payload
        someone = self.chance.choice([*self.players.values(), *self.gone])
        connection_id = next(
            (player.connection_id for player in self.players.values() if player.session == one.session),
            someone.connection_id,
        )
        datagram = encode_host_data(one.user, one.session, connection_id, payload)
        player = self.players.get((one.session, connection_id))
        if there is None or player is None:
            return datagram, None, b""
        player.counts[2] += 1
        player.counts[3] += len(datagram)
        return datagram, player.peer, b"\x02" + payload


@pytest.mark.parametrize("make_tokens", [random_tokens, tokens_in_order, tokens_alike_below])
def test_flows_are_found_as_in_a_dictionary(make_tokens: Callable[[random.Random], Tokens]) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    with Rig() as rig:
        twins = Twins(rig, chance, make_tokens(chance))
        for number in range(ROUNDS):
            for _ in range(CHANGES):
                twins.change()
            twins.try_some(number)
        for slot in list(twins.flows):
            twins.remove(slot)
        twins.try_some(ROUNDS)
