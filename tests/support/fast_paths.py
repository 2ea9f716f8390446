"""A fast path over maps in memory: the test is the kernel program, and counts and hears what it likes."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from relayd.core.counters import Traffic
from relayd.core.declaration.kernel_maps import STATE
from relayd.core.desired import SessionSpec
from relayd.core.limits import Limits
from relayd.core.pings import Pings
from relayd.core.session import Binding, User
from relayd.core.wire import Port
from relayd.forwarding.kernel import counters, fast_path, layout
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.layout import State
from relayd.forwarding.kernel.program import Sizes
from relayd.settings import Settings
from tests.support.kernel_maps import PROCESSORS, FakeMap, FakeProgram
from tests.support.relays import CLIENT, SERVER, Relay, spec

RELAY_AT = "192.0.2.1"


class FakeKept:
    """Counts that outlive the process, as far as the test goes on with them; see `KeptCounts`."""

    def __init__(self, go_on: bool = False) -> None:
        self.go_on = go_on
        self.accounted: list[User] = []
        self.brought_back: list[User] = []
        self.left: list[tuple[int, int, Traffic]] = []

    def account(self, user: User) -> None:
        self.accounted.append(user)

    def bring_back(self, user: User) -> None:
        self.brought_back.append(user)

    def count_left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        self.left.append((session_token, user_token, traffic))


class FastPathWorld:
    """A relay's table and engine, and a fast path that follows it.

    Args:
        monkeypatch: has the host's addresses and processors be the test's.
        specs: the sessions.
        limits: of the relay.
        authorized: how many pairs fit.
        bound: how many bindings fit.
        program: of a relay before this one, to go on with.
        counts_go_on: whether that one's counts are kept.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        specs: Iterable[SessionSpec] = (spec(),),
        limits: Limits | None = None,
        authorized: int = 100,
        bound: int = 100,
        program: FakeProgram | None = None,
        counts_go_on: bool = False,
    ) -> None:
        monkeypatch.setattr(
            "relayd.forwarding.kernel.address_book.reached_at", lambda bind: {address: address for address in bind}
        )
        library = SimpleNamespace(libbpf_num_possible_cpus=lambda: PROCESSORS)
        monkeypatch.setattr(counters, "library", lambda: library)
        monkeypatch.setattr(fast_path, "all_runs_over", _at_once)
        self.settings = Settings.model_validate({"relay": {"bind": [RELAY_AT]}})
        self.program = program or FakeProgram(Sizes(authorized, bound))
        self.relay = Relay(limits or Limits(rebind_after=0.0), ())
        self.kept = FakeKept(counts_go_on)
        self.soon: list[Callable[[], None]] = []
        anything: Any = self.program
        self.fast_path = FastPath(
            settings=self.settings,
            engine=self.relay.engine,
            endpoints=[(SERVER, RELAY_AT), (CLIENT, RELAY_AT)],
            program=anything,
            pins=None,
            adopt=program is not None,
            later=self.soon.append,
            kept=self.kept,
            clock=lambda: self.relay.now,
        )
        self.relay.apply(*specs)
        self.flush()

    def map(self, name: str) -> FakeMap:
        return self.program.map(name)

    def flush(self) -> None:
        """What is to be done soon, is done."""
        soon, self.soon[:] = list(self.soon), []
        for work in soon:
            work()

    def bind(self) -> None:
        """The host and Alice are bound and given to the kernel."""
        self.relay.host_pings()
        self.relay.player_pings()
        self.flush()

    # What the kernel would look up ---------------------------------------------------------------------------

    def slots(self, user: int, session: int) -> tuple[int, int] | None:
        """Of a pair on both ports; None where it is not authorized."""
        value = self.map("pairs").lookup(bytes(layout.PairKey(user=user, session=session)))
        if value is None:
            return None
        server, client = layout.Pair.from_buffer_copy(value).slots
        return server, client

    def binding_at(self, slot: int) -> layout.Binding:
        return layout.Binding.from_buffer_copy(self.map("bindings").lookup(slot.to_bytes(4, "little")) or b"")

    def served(self) -> dict[tuple[int, Port], tuple[str, int]]:
        """Where the kernel would reach whom: by user token and port."""
        found = {}
        for key, value in self.map("pairs").items():
            pair = layout.PairKey.from_buffer_copy(key)
            for port, slot in zip(Port, layout.Pair.from_buffer_copy(value).slots, strict=True):
                if slot:
                    entry = self.binding_at(slot)
                    assert (entry.user, entry.session) == (pair.user, pair.session), "a row that is another user's"
                    found[pair.user, port] = layout.peer_address(entry)[:2]
        return found

    # What the kernel would write -----------------------------------------------------------------------------

    def slot_of(self, binding: Binding) -> int:
        return self.fast_path.mirror.slot_of[binding]

    def counts(self, slot: int, **fields: int) -> None:
        """Adds to fields of a slot's state."""
        memory, start = self.map("states").share(), slot * STATE.size_bytes
        state = State.from_buffer_copy(memory[start : start + STATE.size_bytes])
        for name, more in fields.items():
            setattr(state, name, getattr(state, name) + more)
        memory[start : start + STATE.size_bytes] = bytes(state)

    def answered(self, slot: int, pings: Pings) -> None:
        memory = self.map("pings").share()
        words = (pings.last_ns, pings.heard, pings.missed, pings.jitter_sixteenths_ns)
        memory[slot * 32 : slot * 32 + 32] = b"".join(word.to_bytes(8, "little") for word in words)


async def _at_once() -> None:
    """No run of a program is under way."""
