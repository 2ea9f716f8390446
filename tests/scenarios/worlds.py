"""The engines that scenarios run against, each behind the same few functions."""

import itertools
import struct
import time
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.wire import Port
from tests.scenarios.rig import FIRST_CONNECTION, XDP_DROP, XDP_TX, Rig
from tests.scenarios.scenarios import (
    LIMITS,
    PLAYERS,
    AtHost,
    AtPlayer,
    Bytes,
    Datagram,
    Peer,
    Ping,
    Raw,
    Revoke,
    Send,
    Step,
    ToHost,
    Told,
    ToPlayer,
    Wait,
)

SESSION = 0xC3D9_B17E
FIRST_USER = 0x5A17_93C1
SERVER_SIDE = 7000


class Outcome(NamedTuple):
    """What became of a datagram, and which peer heard what of it: the address, since users share those."""

    verdict: str
    heard: tuple[tuple[int, int], bytes] | None
    """(address, family) and datagram."""


class World(Protocol):
    """One engine with a session of `PLAYERS` players in it."""

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        """Has a peer send a datagram."""

    def wait(self, seconds: float) -> None:
        """Lets time pass."""

    def revoke(self, user: int) -> None:
        """Takes a user out of the session."""


def header(user: int) -> bytes:
    return struct.pack("<II", FIRST_USER + user, SESSION)


def specs(without: set[int]) -> list[SessionSpec]:
    users = tuple(UserSpec(FIRST_USER + user, None) for user in range(1 + PLAYERS) if user not in without)
    return [SessionSpec("scenario", SESSION, users)]


class Play:
    """Plays a scenario in a world, and checks every outcome."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connections: dict[int, list[int]] = {}
        """Connection ids of each player, as its host has seen them."""

    def run(self, steps: list[Step]) -> None:
        for number, step in enumerate(steps):
            if isinstance(step, Wait):
                self.world.wait(step.seconds)
            elif isinstance(step, Revoke):
                self.world.revoke(step.user)
            else:
                self._send(number, step)

    def _send(self, number: int, step: Send) -> None:
        outcome = self.world.send(step.peer, step.port, self.encode(step.peer, step.datagram))
        where = f"step {number}: {step}"
        assert outcome.verdict == step.verdict, where
        if step.out is None:
            assert outcome.heard is None, where
            return
        assert outcome.heard is not None, where
        (address, family), datagram = outcome.heard
        receiver = step.peer if isinstance(step.out, Told) else step.out.peer
        assert (address, family) == (receiver.address, receiver.family), where
        if isinstance(step.out, Told):
            assert datagram == bytes((1, step.out.state)), where
        elif isinstance(step.out, AtPlayer):
            assert datagram == b"\x02" + step.out.payload, where
        else:
            self._heard_by_host(datagram, step.out, where)

    def _heard_by_host(self, datagram: bytes, out: AtHost, where: str) -> None:
        kind, connection = struct.unpack_from("<Bi", datagram)
        assert (kind, datagram[5:]) == (2, out.payload), where
        known = self.connections.setdefault(out.user, [])
        if out.new_connection:
            assert connection not in itertools.chain(*self.connections.values()), where
            known.append(connection)
        else:
            assert connection == known[-1], where

    def encode(self, peer: Peer, datagram: Datagram) -> bytes:
        if isinstance(datagram, Bytes):
            return datagram.content
        if isinstance(datagram, Raw):
            return header(peer.user) + datagram.rest
        if isinstance(datagram, Ping):
            return header(peer.user) + b"\x01"
        if isinstance(datagram, ToHost):
            return header(peer.user) + b"\x02" + datagram.payload
        assert isinstance(datagram, ToPlayer)
        known = self.connections.get(datagram.user, [])
        connection = known[datagram.connection] if len(known) >= -datagram.connection else 0x7777_7777
        return header(peer.user) + b"\x02" + struct.pack("<i", connection) + datagram.payload


def ip_of(peer: Peer) -> str:
    return f"10.77.0.{50 + peer.address}" if peer.family == 4 else f"fd77::{50 + peer.address:x}"


def peer_at(ip: str) -> tuple[int, int]:
    if ":" in ip:
        return int(ip.rpartition(":")[2], 16) - 50, 6
    return int(ip.rpartition(".")[2]) - 50, 4


class EngineWorld:
    """The core engine alone, on a clock of its own."""

    def __init__(self) -> None:
        ids = itertools.count(FIRST_CONNECTION)
        self.table = Table(Limits.model_validate(LIMITS), lambda: next(ids))
        self.engine = Engine(self.table)
        self.now = 1000.0
        self._revoked: set[int] = set()
        self._endpoints = [Endpoint(Port(number % 2), number) for number in range(4)]
        self.table.apply(Snapshot.of(specs(set())), self.now)

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        self.now += 0.0001
        source: Address = (ip_of(peer), SERVER_SIDE, *((0, 0) if peer.family == 6 else ()))
        endpoint = self._endpoints[2 * (peer.family == 6) + port]
        action = self.engine.handle(endpoint, datagram, source, self.now)
        heard = (peer_at(action.to[0]), action.datagram) if action.endpoint is not None else None
        return Outcome(action.verdict.label, heard)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self.table.apply(Snapshot.of(specs(self._revoked)), self.now)


class KernelWorld:
    """The kernel program under BPF_PROG_TEST_RUN, and the engine for what it passes up."""

    def __init__(self, checksum: str = "full") -> None:
        self.rig = Rig(dict(LIMITS))
        self.by_kernel = 0
        self._checksum = checksum
        self._revoked: set[int] = set()

    def __enter__(self) -> Self:
        self.rig.__enter__()
        self._apply()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.rig.__exit__(kind, error, at)

    def _apply(self) -> None:
        self.rig.table.apply(Snapshot.of(specs(self._revoked)), time.monotonic())
        self.rig.fast_path.mirror.flush()

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        frame = self.rig.frame(ip_of(peer), SERVER_SIDE, port, datagram, self._checksum)
        run, action = self.rig.handle(frame)
        if action is not None:
            heard = (peer_at(action.to[0]), action.datagram) if action.endpoint is not None else None
            return Outcome(action.verdict.label, heard)
        self.by_kernel += 1
        assert run.verdict is not None
        if run.exit == XDP_DROP:
            return Outcome(run.verdict.label, None)
        assert run.exit == XDP_TX
        parsed = run.parsed
        assert parsed.checksum_right
        assert parsed.packet.destination_port == SERVER_SIDE
        return Outcome(run.verdict.label, (peer_at(parsed.packet.destination), parsed.packet.payload))

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def revoke(self, user: int) -> None:
        self._revoked.add(user)
        self._apply()
