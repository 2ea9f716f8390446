"""The forwarding thread and the kernel program over one table: in whatever order they begin to follow it.

Both serve the same peers, the thread by real sockets, the program under the kernel's test run. Then the relay is
killed, the program goes on alone, and the next relay takes over what it finds in the maps and in the state file.
"""

import asyncio
import select
import socket
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from relayd.admin.metrics.series import SessionSeries
from relayd.core.counters import Traffic
from relayd.core.endpoint import Address
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.session import User
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping, encode_player_data
from relayd.forwarding.judge import Judge
from relayd.forwarding.sockets import BoundSocket
from relayd.state import layout
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from relayd.state.restoration import Restoration
from tests.integration.waiting import PATIENCE_SECONDS
from tests.scenarios.rig import PORTS, RELAY, XDP_TX, Rig
from tests.scenarios.skips import needs_kernel
from tests.support.gathered import Gathered
from tests.support.relays import ids_in_order
from tests.thread import compiled

pytestmark = [compiled.needs_native, needs_kernel]

SESSION, HOST, ALICE = 0xBEEF, 1, 2
AT = {HOST: ("10.77.0.60", 8000), ALICE: ("10.77.0.61", 8001)}
PORT_OF = {HOST: Port.SERVER, ALICE: Port.CLIENT}
DATA = encode_player_data(ALICE, SESSION, b"\x01\x51\0\0\0move")
PARTS = ("kernel", "thread", "records", "state")


class Seen(NamedTuple):
    """What is the same in whatever order."""

    together: tuple[int, ...]
    pings: int
    watched: tuple[int, int, tuple[int, ...]]
    """How many bindings program and thread served meanwhile, and what was counted."""
    taken_over: list[tuple[int, Port, Address, int, bool]]
    """Of each binding: user, port, address, connection id, and whether the program serves it."""
    counted: tuple[int, ...]
    """After that, with what the program forwarded alone."""
    revoked: tuple[int, ...]
    file: list[tuple[int, layout.Identity, tuple[int, ...]]]
    series: list[tuple[str, tuple[int, ...]]]


class World(Rig):
    """A relay whose parts are set up in this order.

    Args:
        folder: of the state file.
        order: all of PARTS.
    """

    def __init__(self, folder: Path, order: Sequence[str]) -> None:
        super().__init__()
        self._folder, self._order = folder, order

    def start(self, adopt: bool = False) -> None:
        followers = Gathered()
        self.table = Table(self.settings.limits, ids_in_order(), followers)
        self.engine = Engine(self.table)
        self.state = StateMemory(self._folder, 0)
        self.records = Records(self.state, time.monotonic)
        self.engine.counters.continue_in(self.records.counters_memory())
        with followers.of("state"):
            self.restoration = Restoration(
                state=self.state,
                records=self.records,
                table=self.table,
                endpoints=self.endpoints,
                counters=self.engine.counters,
                now=time.monotonic,
                longest_silence_seconds=1e6,
            )
        self._bound = [
            BoundSocket(endpoint, self._sockets[2 * endpoint.port + endpoint.number // 2])
            for endpoint in self.endpoints
        ]
        self.forwarder = compiled.BareForwarder(
            [(one.socket.fileno(), int(one.endpoint.port)) for one in self._bound], False, *self.records.counts
        )
        self._judge = Judge(self.engine, self._bound, self.records)
        self.kept = self.restoration
        for part in self._order:
            with followers.of(part):
                if part == "kernel":
                    self.fast_path = self.network.run(self.make_fast_path, adopt)
                elif part == "thread":
                    self.flows = compiled.Flows(self.forwarder, self.table, self.records, lambda _flush: None)
                elif part == "records":
                    self.records.follow(followers)
        self.series = SessionSeries(10)
        with followers.of("readers"):
            followers.subscribe(Phase.READERS, self.series)
        followers.begin((*self._order, "readers"))
        self.forwarder.start()

    def kill(self) -> None:
        """As by SIGKILL, but that the sockets stay."""
        self.forwarder.stop()
        self.state.beat()
        self.state.close()

    def meet(self) -> None:
        """Opens the peers' sockets."""
        self.peers = {user: self.network.run(self._peer, at) for user, at in AT.items()}

    def _peer(self, at: Address) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(at)
        sock.settimeout(PATIENCE_SECONDS)
        return sock

    def to_thread(self, user: int, datagram: bytes, receiver: int) -> None:
        """A datagram to the relay's socket, until somebody has received what came of it."""
        self.peers[user].sendto(datagram, (RELAY[4], PORTS[PORT_OF[user]]))
        hears = self.peers[receiver].fileno()
        while hears not in select.select([hears, self.forwarder.fileno()], [], [], PATIENCE_SECONDS)[0]:
            for number, data, source, local in self.forwarder.take(10):
                self._judge.receive(self._bound[number].endpoint, data, source, time.monotonic(), local)
            self.flows.flush()
        self.peers[receiver].recv(2048)

    def to_program(self, user: int, datagram: bytes) -> Verdict | None:
        """The same to the kernel program alone."""
        run = self.run(self.frame(*AT[user], PORT_OF[user], datagram))
        assert run.exit == XDP_TX
        return run.verdict

    def alice(self) -> User:
        return self.table.sessions["game"].users[ALICE]

    def settle(self) -> None:
        """Has both of them counted, and gives them what is new to them."""
        self.forwarder.stop()
        self.forwarder.start()
        self.flows.absorb(self.table.sessions.values())
        self.fast_path.absorb(self.table.sessions.values())
        self.fast_path.mirror.flush()
        self.flows.flush()


def numbers(traffic: Traffic | None) -> tuple[int, int, int, int]:
    assert traffic is not None
    return traffic.to_host_datagrams, traffic.to_host_bytes, traffic.to_player_datagrams, traffic.to_player_bytes


def ping(user: int) -> bytes:
    return encode_ping(user, SESSION)


def play(world: World) -> Seen:
    """The same steps in every order."""
    world.authorize(("game", SESSION, (HOST, ALICE)))
    alice = world.alice()
    for user in (HOST, ALICE):
        world.to_thread(user, ping(user), user)
    world.settle()
    for user in (HOST, ALICE):
        world.to_thread(user, ping(user), user)
        assert world.to_program(user, ping(user)) is Verdict.ANSWERED
    for _ in range(3):
        world.to_thread(ALICE, DATA, HOST)
    world.settle()
    before = time.monotonic()
    for _ in range(2):
        assert world.to_program(ALICE, DATA) is Verdict.FORWARDED
    binding = alice.client_binding
    assert binding is not None
    assert binding.last_seen < before <= world.table.presence.last_heard(binding)
    world.settle()
    together, pings = numbers(alice.traffic), world.table.presence.pings(binding)
    assert pings is not None
    world.table.watch(alice.session, time.monotonic())
    watched = world.fast_path.bindings_served, len(world.flows), numbers(alice.traffic)
    assert before <= world.table.presence.last_heard(binding), "whoever let go of it left what it knew"
    world.table.unwatch(alice.session, time.monotonic())
    world.settle()
    # The program knows the way to the host once it has heard it.
    assert world.to_program(HOST, ping(HOST)) is Verdict.ANSWERED
    world.to_thread(ALICE, DATA, HOST)
    world.kill()
    for _ in range(2):
        assert world.to_program(ALICE, DATA) is Verdict.FORWARDED
    world.start(adopt=True)
    world.authorize(("game", SESSION, (HOST, ALICE)))
    alice = world.alice()
    taken_over = [
        (one.user.token, one.port, one.address, one.user.connection_id, one in world.fast_path.mirror.slot_of)
        for one in alice.session.bindings()
    ]
    world.restoration.finish()
    world.network.run(asyncio.run, world.fast_path.tick())
    world.to_thread(ALICE, DATA, HOST)
    assert world.to_program(ALICE, DATA) is Verdict.FORWARDED
    world.settle()
    counted = numbers(alice.traffic)
    world.authorize(("game", SESSION, (HOST,)))
    return Seen(
        together,
        pings.heard,
        watched,
        taken_over,
        counted,
        numbers(alice.session.revoked_traffic),
        list(layout.records(world.state.memory, world.state.slots)),
        [(label, numbers(traffic)) for label, traffic in world.series.read(alice.session.traffic())],
    )


def outcome(folder: Path, order: Sequence[str]) -> Seen:
    with World(folder, order) as world:
        world.meet()
        try:
            return play(world)
        finally:
            world.kill()
            for peer in world.peers.values():
                peer.close()


def test_no_order_of_set_up_matters(tmp_path: Path) -> None:
    size = len(DATA)
    expected = outcome(tmp_path / "expected", PARTS)
    assert expected.together == (5, 5 * size, 0, 0)
    assert expected.pings == 3
    assert expected.watched == (0, 0, (5, 5 * size, 0, 0))
    assert [one[:3] + one[4:] for one in expected.taken_over] == [
        (user, PORT_OF[user], AT[user], True) for user in (HOST, ALICE)
    ]
    assert expected.counted == expected.revoked == (10, 10 * size, 0, 0)
    kinds = [identity.kind for _, identity, _ in expected.file]
    assert sorted(kinds) == [layout.Kind.BINDING, layout.Kind.ACCOUNT, layout.Kind.REVOKED]
    for number, order in enumerate(permutations(PARTS)):
        assert outcome(tmp_path / str(number), order) == expected, f"set up as {order}"
