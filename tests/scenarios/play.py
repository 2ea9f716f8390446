"""How a scenario is played in a world, which is one engine behind a few functions, and judged there."""

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address
from relayd.core.wire import Port
from tests.scenarios.rig import PORTS, RELAY
from tests.scenarios.steps import (
    OWN,
    PLAYERS,
    AtHost,
    AtPlayer,
    Away,
    Begin,
    Bytes,
    Datagram,
    Drain,
    End,
    Fleet,
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

SERVER_SIDE = 7000


class Tokens(NamedTuple):
    """Of a session and its users, which are numbered one after another."""

    session: int = 0xC3D9_B17E
    first_user: int = 0x5A17_93C1

    def header(self, user: int) -> bytes:
        return struct.pack("<II", self.first_user + user, self.session)

    def users(self, without: Iterable[int] = ()) -> tuple[int, ...]:
        return tuple(self.first_user + user for user in range(1 + PLAYERS) if user not in without)


class Outcome(NamedTuple):
    """What became of a datagram, and which peer heard what of it: the address, since users share those."""

    verdict: str
    heard: tuple[tuple[int, int], bytes] | None
    """(address, family) and datagram."""


class World(Protocol):
    """One engine with a session of `PLAYERS` players in it."""

    tokens: Tokens

    def send(self, peer: Peer, port: Port, datagram: bytes) -> Outcome:
        """Has a peer send a datagram."""

    def wait(self, seconds: float) -> None:
        """Lets time pass."""

    def revoke(self, user: int) -> None:
        """Takes a user out of the session."""

    def end(self) -> None:
        """Takes the session out of the table."""

    def begin(self) -> None:
        """Puts it into the table, with all of its users."""

    def drain(self, on: bool) -> None:
        """Has the relay take no new sessions, or take them again."""


class InFleet(World, Protocol):
    """One that can be told of other relays."""

    def fleet(self, peers: Sequence[Peer]) -> None:
        """Says that other relays have the sockets of these peers."""


class Leavable(World, Protocol):
    """One where something is decided while there is no relayd."""

    def away(self, on: bool) -> None:
        """Closes the relay's sockets, or opens them again."""


class Play:
    """Plays a scenario in a world, and checks every outcome."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connections: dict[int, list[int]] = {}
        """Connection ids of each player, as its host has seen them."""

    def run(self, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            if isinstance(step, Send):
                self._send(number, step)
            else:
                self.happen(step)

    def happen(self, step: Step) -> None:
        """Any step that is no datagram."""
        world = self.world
        if isinstance(step, Wait):
            world.wait(step.seconds)
        elif isinstance(step, Revoke):
            world.revoke(step.user)
        elif isinstance(step, End):
            world.end()
        elif isinstance(step, Begin):
            world.begin()
        elif isinstance(step, Drain):
            world.drain(step.on)
        elif isinstance(step, Fleet):
            in_fleet: InFleet = world  # type: ignore[assignment]  # the scenario names the worlds without
            in_fleet.fleet(step.peers)
        else:
            assert isinstance(step, Away)
            leavable: Leavable = world  # type: ignore[assignment]  # the scenario names the worlds without
            leavable.away(step.on)

    def _send(self, number: int, step: Send) -> None:
        outcome = self.world.send(step.peer, step.port, self.encode(step.peer, step.datagram))
        where = f"step {number}: {step}"
        assert outcome.verdict == step.verdict, f"{where}, but it was {outcome.verdict}"
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
            assert connection == known[out.connection], where

    def encode(self, peer: Peer, datagram: Datagram) -> bytes:
        header = self.world.tokens.header(peer.user)
        if isinstance(datagram, Bytes):
            return datagram.content
        if isinstance(datagram, Raw):
            return header + datagram.rest
        if isinstance(datagram, Ping):
            return header + b"\x01"
        if isinstance(datagram, ToHost):
            return header + b"\x02" + datagram.payload
        assert isinstance(datagram, ToPlayer)
        known = self.connections.get(datagram.user, [])
        connection = known[datagram.connection] if len(known) >= -datagram.connection else 0x7777_7777
        return header + b"\x02" + struct.pack("<i", connection) + datagram.payload


# Addresses --------------------------------------------------------------------------------------------------------


def ip_of(peer: Peer) -> str:
    if isinstance(peer.address, str):
        return RELAY[peer.family] if peer.address == OWN else peer.address
    return f"10.77.0.{50 + peer.address}" if peer.family == 4 else f"fd77::{50 + peer.address:x}"


def peer_at(ip: str) -> tuple[int, int]:
    if ":" in ip:
        return int(ip.rpartition(":")[2], 16) - 50, 6
    return int(ip.rpartition(".")[2]) - 50, 4


def udp_port_of(peer: Peer) -> int:
    if isinstance(peer.udp_port, Port):
        return PORTS[peer.udp_port]
    return SERVER_SIDE if peer.udp_port is None else peer.udp_port


class Places:
    """Where peers are: everybody at an IP address of its own."""

    relay: ClassVar[Mapping[int, str]] = RELAY
    """By family, where the relay is."""

    def address(self, peer: Peer) -> Address:
        """As a socket names it."""
        return ip_of(peer), udp_port_of(peer), *((0, 0) if peer.family == 6 else ())

    def peer(self, address: Address) -> tuple[int, int]:
        """Who is there: address and family."""
        return peer_at(address[0])


class LoopbackPlaces(Places):
    """The same on a loopback interface as it is: there is a whole network of IPv4 addresses, and one of IPv6.

    Real sockets there have any UDP port; where they are stands in for it only where no sockets are.
    """

    relay: ClassVar[Mapping[int, str]] = {4: "127.0.0.1", 6: "::1"}
    _FIRST_PORT = 20000

    def address(self, peer: Peer) -> Address:
        if peer.address == OWN:
            return self.relay[peer.family], udp_port_of(peer), *((0, 0) if peer.family == 6 else ())
        assert isinstance(peer.address, int)
        if peer.family == 6:
            return "::1", self._FIRST_PORT + peer.address, 0, 0
        return f"127.77.0.{50 + peer.address}", SERVER_SIDE

    def peer(self, address: Address) -> tuple[int, int]:
        return (address[1] - self._FIRST_PORT, 6) if len(address) == 4 else peer_at(address[0])


def specs(tokens: Tokens, without: Iterable[int], named: Mapping[int, str]) -> list[SessionSpec]:
    """The session as its source has it.

    Args:
        tokens: its tokens.
        without: users who were revoked.
        named: IP addresses that users are authorized with.
    """
    gone = set(without)
    users = [UserSpec(tokens.first_user + user, named.get(user)) for user in range(1 + PLAYERS) if user not in gone]
    return [SessionSpec("scenario", tokens.session, tuple(users))]
