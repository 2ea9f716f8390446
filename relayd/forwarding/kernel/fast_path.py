"""The fast path of one relay, put together: program, interfaces, mirror, counters, and what is pinned of them."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import structlog

from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.events import Event
from relayd.core.followers import Phase
from relayd.core.histogram import Histogram
from relayd.core.meter import NS_PER_SECOND
from relayd.core.session import Binding, Session, User
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceView, KeptCounts
from relayd.core.wire import Port
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.forwarding.kernel import denied_networks, layout
from relayd.forwarding.kernel.address_book import AddressBook
from relayd.forwarding.kernel.adoption import Adoption
from relayd.forwarding.kernel.counters import Totals
from relayd.forwarding.kernel.interfaces import Interfaces
from relayd.forwarding.kernel.mirror import Mirror
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram
from relayd.forwarding.kernel.run_times import read_run_times
from relayd.forwarding.kernel.slots import all_runs_over
from relayd.settings import Settings

_log = structlog.get_logger()

_NEVER_NS = 1 << 62
_PAUSE_SECONDS = 0.001
"""Between two batches of removed entries: the kernel frees them later, many at once, and blocks this process then."""


class FastPath:
    """A running fast path. Build it with `start_fast_path`.

    Args:
        settings: the whole configuration.
        engine: from now on the fast path follows its table, and says there whom it heard.
        endpoints: the relay's sockets, in their order, each with the address it is bound to.
        program: loaded, with its maps; the fast path's to close.
        pins: where it is kept for the next process; None for nowhere.
        adopt: whether the maps are those of a predecessor.
        later: has a function called soon, from the event loop.
        kept: the counts that outlive the process.
        clock: that of the table and of the program, in seconds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        engine: Engine,
        endpoints: list[tuple[Endpoint, str]],
        program: KernelProgram,
        pins: Pins | None,
        adopt: bool,
        later: Callable[[Callable[[], None]], object],
        kept: KeptCounts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.program = program
        self.mirror = Mirror(program, engine.table, later=later, account=kept.account, clock=clock)
        self.totals = Totals(program.map("totals"), program.map("totals_taken_over"), engine.counters)
        self.adoption: Adoption | None = None
        self._settings = settings
        self._table = engine.table
        self._guesses = engine.guesses
        self._pins = pins
        bind = [address for _, address in endpoints[:: len(Port)]]
        self._addresses = AddressBook(program.map("addresses"), bind, settings.relay.public_ip)
        self.interfaces = Interfaces(
            settings.fast_path.interfaces,
            program=program,
            pins=pins,
            totals=self.totals,
            serving=self.mirror.slot_of.__len__,
            clock=clock,
        )
        self._addresses_problem = ""
        """Why the host's addresses are not followed at present; told once."""
        if adopt and kept.go_on:
            self.totals.go_on()
        if adopt:
            self.adoption = Adoption(self.mirror, [endpoint for endpoint, _ in endpoints], kept)
        self.adopted = self.adoption is None
        """Whether all that the predecessor left is taken over or discarded, with what was counted for it."""
        self._write_control()
        denied_networks.write(program.map("denied"), settings.limits.denied_networks)
        self._addresses.refresh()
        self._table.followers.subscribe(Phase.KERNEL, self)
        self._table.followers.subscribe_to_users(Phase.KERNEL, self)
        self._table.presence.register(self.mirror)
        self._guesses.register(self.mirror.guesses)

    @property
    def up(self) -> bool:
        """Whether the program forwards on every interface of the settings."""
        return self.interfaces.up

    @property
    def interface_views(self) -> Sequence[InterfaceView]:
        """How each interface of the settings stands, as of the last look."""
        return self.interfaces.views()

    @property
    def lost(self) -> int:
        """Of what is counted as forwarded or answered, what interfaces lost on its way out."""
        return self.interfaces.lost

    @property
    def bindings_served(self) -> int:
        """How many bindings it serves."""
        return len(self.mirror.slot_of)

    def settled(self, session: Session) -> bool:
        """Whether nothing more can be counted for the bindings that ended in a session."""
        return session not in self.mirror.unsettled

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        """Datagrams that the kernel decided so, as of the last `absorb`."""
        return self.totals.by_kernel(port, verdict)

    def run_times(self) -> Histogram:
        """How long the program ran for some of the datagrams that it forwarded."""
        return read_run_times(self.program.map("run_times"), self.totals.processors)

    def conflicts(self, binding: Binding) -> int:
        """Datagrams with this binding's tokens that the kernel dropped because they came from other addresses."""
        slot = self.mirror.slot_of.get(binding)
        return self.mirror.traffic.conflicts(slot) if slot is not None else 0

    def event(self, event: Event) -> None:
        """Follows the table."""
        self.mirror.event(event)

    def authorized(self, user: User, admitted: bool) -> None:
        """Follows who is in a session; users bound before a restart get back the bindings that the kernel kept."""
        if self.adoption is not None:
            self.adoption.authorized(user, admitted)
        else:
            self.mirror.authorized(user, admitted)

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what the kernel counted to the counts of the engine and of these sessions: before anybody reads them."""
        # Totals last: the program counts there first, so that the sum of the sessions is never more than the whole.
        for session in sessions:
            self.mirror.absorb(session)
        self.totals.absorb()

    async def run_forever(self) -> None:
        """Looks at the interfaces, and does what is to be done every second."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_forever())
            tasks.create_task(self._tick_forever())

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self.interfaces.pause_seconds)
            await self.look()

    async def look(self) -> None:
        """Follows the interfaces."""
        if await self.interfaces.look():
            self._write_control()

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self.tick()

    async def tick(self) -> None:
        """Follows what changed outside of the table, and frees retired slots."""
        # What found no room tries again.
        self.mirror.flush()
        self.totals.absorb()
        self._refresh_addresses()
        if self._missing() != self._told_missing:
            self._write_control()
        if self.adoption is not None and self._table.loaded:
            with many_new_objects():
                for _ in self.adoption.finish():
                    await asyncio.sleep(_PAUSE_SECONDS)
            _log.info("fast path goes on with what it served before", bindings=self.adoption.restored)
            self.adoption = None
        slots, indexes = self.mirror.slots.retired(), self.mirror.indexes.retired()
        if slots or indexes:
            await all_runs_over()
            async for _ in in_slices(chain(self.mirror.slots.free(slots), self.mirror.indexes.free(indexes))):
                pass
        self.adopted = self.adoption is None

    def _refresh_addresses(self) -> None:
        try:
            self._addresses.refresh()
        except OSError as error:
            if str(error) != self._addresses_problem:
                _log.warning(
                    "the host's addresses cannot be followed; the fast path goes on with those it knows", why=str(error)
                )
            self._addresses_problem = str(error)
        else:
            self._addresses_problem = ""

    def stop(self, *, remove: bool) -> None:
        """Releases it: it keeps forwarding for bound users or, with ``remove``, is taken off the interfaces."""
        # First, so that it no longer follows the table even if the kernel refuses the rest.
        self._table.followers.unsubscribe(self)
        self._table.presence.unregister(self.mirror)
        self._guesses.unregister(self.mirror.guesses)
        self.mirror.flush()
        self.absorb(self._table.sessions.values())
        self.interfaces.stop(remove=remove or self._pins is None)
        if remove and self._pins is not None:
            self._pins.remove()
        self.program.close()

    def _write_control(self) -> None:
        self._told_missing = self._missing()
        flags = self._told_missing
        if self._settings.limits.pin_ip:
            flags |= layout.ControlFlag.PIN_IP
        if self.interfaces.some_left_to_sockets:
            flags |= layout.ControlFlag.SOME_LEFT_TO_SOCKETS
        self.program.map("control").put(0, bytes(control(self._settings, flags)))

    def _missing(self) -> layout.ControlFlag:
        """What the program does not know, for it did not fit into its maps."""
        missing = layout.ControlFlag(0)
        if not self.mirror.pairs_complete:
            missing |= layout.ControlFlag.PAIRS_INCOMPLETE
        if not self.mirror.by_sockets.complete:
            missing |= layout.ControlFlag.BINDINGS_INCOMPLETE
        return missing


def control(settings: Settings, flags: layout.ControlFlag) -> layout.Control:
    """The program's settings."""
    relay, limits, fast_path = settings.relay, settings.limits, settings.fast_path
    entry = layout.Control(
        layout=layout.DIGEST,
        flags=int(flags),
        tos=relay.dscp << 2,
        rebind_after_ns=int(limits.rebind_after * 1e9),
        source_interval_ns=_interval(fast_path.unknown_per_source_per_second),
        pair_interval_ns=_interval(fast_path.known_per_user_per_second),
        guess_interval_ns=_interval(limits.guesses_per_second),
        source_guess_interval_ns=_interval(limits.guesses_per_source_per_second),
        bind_digest=int.from_bytes(hashlib.sha256("\n".join(relay.bind).encode()).digest()[:8], "little"),
    )
    entry.total_intervals_ns[layout.PassedUp.UNKNOWN] = _interval(fast_path.unknown_per_second)
    entry.total_intervals_ns[layout.PassedUp.KNOWN] = _interval(fast_path.known_per_second)
    for index, number in enumerate((relay.server_port, relay.client_port)):
        entry.ports[index][:] = tuple(number.to_bytes(2, "big"))
    for index, number in enumerate(relay.named_ports):
        entry.public_ports[index][:] = tuple(number.to_bytes(2, "big"))
    for port in Port:
        rate = limits.user_rate(port)
        entry.rates[port] = layout.Rate(NS_PER_SECOND // rate.datagrams if rate.datagrams else 0, rate.bytes)
    return entry


def _interval(per_second: int) -> int:
    return 1_000_000_000 // per_second if per_second else _NEVER_NS
