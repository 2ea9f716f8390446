"""A forwarding thread that is none: it keeps what it is told, and counts what the test has it count."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from relayd.core.declaration.common import TRAFFIC
from relayd.core.declaration.thread import COUNTED_DROPS, DELAY_BOUNDS_NS
from relayd.core.endpoint import Address, Local
from relayd.core.session import Binding, User
from relayd.core.verdict import Verdict
from relayd.core.views import CountsMemory
from relayd.core.wire import Port

_COUNTS = len(TRAFFIC) + len(COUNTED_DROPS)
"""To the host, to the player, in datagrams and bytes; drops by reason."""


class Flow(NamedTuple):
    """A binding that the thread forwards for."""

    endpoint: int
    address: Address
    user: int
    session: int
    connection_id: int
    meter: tuple[int, int, int, int]
    local: Local | None = None


class FakeForwarder:
    """See `Forwarder` of relayd/forwarding/thread/_forwarder.pyi."""

    def __init__(self, endpoints: Sequence[tuple[int, int]] = (), merge: bool = False, *_: object) -> None:
        self.endpoints = list(endpoints)
        self.merge = merge
        self.running = False
        self.flows: dict[int, Flow] = {}
        self.counted: dict[int, list[int]] = {}
        self.asked: list[int] = []
        """Slots of receivers that it has not heard for a while."""
        self.heard_pings: dict[int, tuple[int, int, int, int]] = {}
        self.due_ns: dict[int, tuple[int, int]] = {}
        """What stands in a slot's meter when it is removed."""
        self.local: dict[int, Local] = {}
        """Where a slot's peer sends to, by what the thread heard."""
        self.totals = [[[0, 0] for _ in Verdict] for _ in Port]
        self.delayed: tuple[tuple[int, ...], float] = ((0,) * (len(DELAY_BOUNDS_NS.values) + 1), 0.0)
        self._passed_up: list[tuple[int, bytes, Address, Local | None]] = []
        self._readable = os.eventfd(0, os.EFD_NONBLOCK)

    # What the test does -------------------------------------------------------------------------------------

    def pass_up(self, number: int, data: bytes, source: Address, local: Local | None = None) -> None:
        """A datagram that the engine has to judge."""
        self._passed_up.append((number, data, source, local))
        os.eventfd_write(self._readable, 1)

    def count(self, slot: int, **counts: int) -> None:
        """Forwards or drops in that slot: `to_host`, `to_player` as datagrams of 100 bytes, and drops by name."""
        counted = self.counted.setdefault(slot, [0] * _COUNTS)
        for at, name in ((0, "to_host"), (2, "to_player")):
            counted[at] += counts.get(name, 0)
            counted[at + 1] += 100 * counts.get(name, 0)
        for at, name in enumerate(("queue_full", "failed", "limited"), 4):
            counted[at] += counts.get(name, 0)

    # Forwarder ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.running:
            raise RuntimeError
        self.running = True

    def stop(self) -> None:
        self.running = False

    def fileno(self) -> int:
        return self._readable

    def take(self, limit: int) -> list[tuple[int, bytes, Address, Local | None]]:
        taken, self._passed_up = self._passed_up[:limit], self._passed_up[limit:]
        if not self._passed_up:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._readable)
        return taken

    def add(
        self,
        slot: int,
        endpoint: int,
        address: Address,
        user: int,
        session: int,
        connection_id: int,
        meter: tuple[int, int, int, int] = (0, 0, 0, 0),
        local: Local | None = None,
    ) -> None:
        if slot in self.flows:
            raise ValueError(f"slot {slot} is taken")
        self.flows[slot] = Flow(endpoint, address, user, session, connection_id, meter, local)

    def remove(self, slot: int) -> tuple[int, int, Local | None]:
        flow = self.flows.pop(slot)
        return *self.due_ns.get(slot, (0, 0)), self.local.get(slot, flow.local)

    def take_counts(self, slot: int) -> tuple[int, ...]:
        return tuple(self.counted.pop(slot, [0] * _COUNTS))

    def take_asked(self) -> list[int]:
        asked, self.asked = self.asked, []
        return asked

    def pings(self, slot: int) -> tuple[int, int, int, int]:
        return self.heard_pings.get(slot, (0, 0, 0, 0))

    def take_totals(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        totals = tuple(tuple((pair[0], pair[1]) for pair in of_port) for of_port in self.totals)
        self.totals = [[[0, 0] for _ in Verdict] for _ in Port]
        return totals

    def delays(self) -> tuple[tuple[int, ...], float]:
        return self.delayed

    def close(self) -> None:
        os.close(self._readable)


class FakeRecords:
    """Slots for bindings, of which nothing outlives the test; see `BindingRecords`."""

    counts: CountsMemory = CountsMemory(*(None, 0, 0, 0))  # type: ignore[arg-type]  # nobody looks into it

    def __init__(self, most: int = 100) -> None:
        self.slots: dict[Binding, int] = {}
        self.seen: dict[int, float] = {}
        """When the thread heard a slot."""
        self.accounted: list[User] = []
        self._free = list(range(most, 0, -1))

    def begin(self, binding: Binding) -> int:
        if not self._free:
            return 0
        self.slots[binding] = self._free.pop()
        return self.slots[binding]

    def end(self, binding: Binding) -> None:
        slot = self.slots.pop(binding, 0)
        if slot:
            self.seen.pop(slot, None)
            self._free.append(slot)

    def slot_of(self, binding: Binding) -> int:
        return self.slots.get(binding, 0)

    def last_seen(self, slot: int) -> float:
        return self.seen.get(slot, 0.0)

    def note_seen(self, slot: int, at: float) -> None:
        self.seen[slot] = max(self.last_seen(slot), at)

    def account(self, user: User) -> None:
        self.accounted.append(user)


def any_forwarder(one: FakeForwarder) -> Any:
    """In the place of a real one, whose class cannot be made another's."""
    return one
