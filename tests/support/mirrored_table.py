"""A table, the mirror that follows it, and maps that are played: what the fast path is without a kernel."""

import itertools
import struct
from collections.abc import Callable
from typing import Any

from relayd.core.counters import Traffic
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.events import Event
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.session import Binding, Session, User
from relayd.core.table import Table
from relayd.core.views import KeptCounts
from relayd.core.wire import Port, encode_ping
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.adoption import Adoption
from relayd.forwarding.kernel.mirror import Mirror
from tests.support.bpf_maps import PlayedProgram

SESSION, OTHER = 0xCAFE, 0xBEEF
HOST, ALICE, BOB = 10, 11, 12
HERE, THERE, ELSEWHERE = ("192.0.2.1", 4000), ("198.51.100.7", 5000), ("198.51.100.8", 5001)
ENDPOINTS = [Endpoint(Port(number % 2), number) for number in range(4)]
S, C = ENDPOINTS[:2]
FIRST_ID = 500
TRAFFIC_AT, LIMITED_AT = 8, layout.State.limited_datagrams.offset


class MirroredTable:
    """A table and the mirror that follows it, on a clock turned by hand."""

    def __init__(
        self,
        limits: Limits | None = None,
        program: PlayedProgram | None = None,
        adopt: KeptCounts | None = None,
        first_id: int = FIRST_ID,
    ) -> None:
        self.now = 1000.0
        ids = itertools.count(first_id)
        self.table = Table(limits or Limits(user_timeout=30.0), lambda: next(ids))
        self.engine = Engine(self.table)
        self.program = program or PlayedProgram()
        self.later: list[Callable[[], None]] = []
        self.accounted: list[User] = []
        played: Any = self.program
        self.mirror = Mirror(
            played, self.table, later=self.later.append, account=self.accounted.append, clock=lambda: self.now
        )
        self.adoption = Adoption(self.mirror, ENDPOINTS, adopt) if adopt is not None else None
        self.table.followers.subscribe(Phase.KERNEL, self)
        self.table.followers.subscribe_to_users(Phase.KERNEL, self)
        self.table.presence.register(self.mirror)

    def event(self, event: Event) -> None:
        self.mirror.event(event)

    def authorized(self, user: User, admitted: bool) -> None:
        # An adoption with nothing left to adopt has a length of 0.
        (self.mirror if self.adoption is None else self.adoption).authorized(user, admitted)

    def authorize(self, **users: tuple[int, ...]) -> None:
        tokens = {"game": SESSION, "other": OTHER}
        specs = [
            SessionSpec(name, tokens[name], tuple(UserSpec(user, None) for user in of)) for name, of in users.items()
        ]
        self.table.apply(Snapshot.of(specs), self.now)

    def ping(self, user: int, source: Address, session: int = SESSION) -> Binding:
        endpoint = S if user == HOST else C
        self.engine.handle(endpoint, encode_ping(user, session), source, self.now)
        binding = self.user(user, session).binding_on(endpoint.port)
        assert binding is not None
        return binding

    def user(self, token: int, session: int = SESSION) -> User:
        return self.table.by_token[session].users[token]

    @property
    def session(self) -> Session:
        return self.table.by_token[SESSION]

    def flush(self) -> None:
        """The loop's next round."""
        waiting, self.later[:] = self.later[:], []
        for function in waiting:
            function()

    def runs_are_over(self) -> None:
        for numbers in (self.mirror.slots, self.mirror.indexes):
            for _ in numbers.free(numbers.retired()):
                pass

    def slots(self, user: int, session: int = SESSION) -> tuple[int, ...] | None:
        """By port, as the map `pairs` has it; None where it has no such pair."""
        raw = self.program.map("pairs").lookup(struct.pack("<II", user, session))
        return None if raw is None else struct.unpack_from("<II", raw)

    def hosts(self) -> list[tuple[int, int]]:
        """Token and slot of the host, of each session in the map."""
        entries = [struct.unpack("<II", value) for _, value in self.program.map("sessions").items()]
        return [entry for entry in entries if any(entry)]

    def connections(self) -> dict[tuple[int, ...], int]:
        entries = self.program.map("connections").entries.items()
        return {struct.unpack("<II", key): int.from_bytes(value, "little") for key, value in entries}

    def entry(self, slot: int) -> layout.Binding:
        return layout.Binding.from_buffer_copy(self.program.map("bindings").lookup(slot.to_bytes(4, "little")) or b"")

    def forward(self, slot: int, *counts: int, last_seen: float = 0.0, limited: int = 0) -> None:
        """As the program would count: to the host and to the player, datagrams and bytes."""
        states = self.program.map("states")
        at = slot * states.value_bytes
        struct.pack_into("<Q", states.share(), at, int(last_seen * 1e9))
        struct.pack_into("<4Q", states.share(), at + TRAFFIC_AT, *counts)
        struct.pack_into("<Q", states.share(), at + LIMITED_AT, limited)

    def ended(self) -> dict[int, float]:
        entries = self.program.map("ended").entries.items()
        return {int.from_bytes(key, "little"): int.from_bytes(value, "little") / 1e9 for key, value in entries}


def counts(traffic: Traffic | None) -> tuple[int, int, int, int]:
    assert traffic is not None
    return (
        traffic.to_host_datagrams,
        traffic.to_host_bytes,
        traffic.to_player_datagrams,
        traffic.to_player_bytes,
    )
