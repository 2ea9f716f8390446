"""``python -m bench adoption``: what it takes to give the kernel 400,000 authorized users, and to take them over again.

A quarter of them is bound. A table is filled by its owner, as a session source would have it, first over empty maps and
then, in a new table, over those that the first one left; then once more with half of the sessions gone. A probe watches
for how long the event loop is ever held. No traffic flows. Needs root.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

import uvloop

from bench.loop_probe import LoopProbe
from bench.machine import describe
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.table import Table
from relayd.core.wire import Port, encode_ping
from relayd.event_loop.garbage import settle
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.log import configure
from relayd.session_source.owner import TableOwner
from relayd.settings import Settings
from tests.support.kept import NothingKept
from tests.support.kernel_program import why_not

SESSIONS = 40_000
USERS_PER_SESSION = 10
BOUND_PER_SESSION = 2
"""Players, beside a host in every other session."""
_ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)]


def main() -> None:
    """Measures once and prints a line for each step."""
    if (reason := why_not()) is not None:
        sys.exit(f"bench adoption: {reason}")
    configure("error")
    users = SESSIONS * USERS_PER_SESSION
    print(describe())
    print(f"{SESSIONS:,} sessions of {USERS_PER_SESSION} users, {users // 4:,} bindings")
    print(f"{'step':56} {'s':>7}  {'loop held, ms':>13} {'in processor time':>18}")
    uvloop.run(_measure())


async def _measure() -> None:
    users = SESSIONS * USERS_PER_SESSION
    program = KernelProgram.load(Sizes(users, users // 2))
    try:
        probe = LoopProbe()
        first = _Relay(program, adopt=False)
        await _apply("give the kernel all pairs", probe, first, SESSIONS)
        first.bind_all()
        with _timed("give the kernel all bindings, at once"):
            first.fast_path.mirror.flush()
        with _timed("begin to take over: before the ports are served"):
            second = _Relay(program, adopt=True)
        await _apply("take over all of them", probe, second, SESSIONS)
        await _step("end of it", probe, second.fast_path.tick())
        print(f"{len(second.fast_path.mirror.slot_of):,} bindings taken over")
        third = _Relay(program, adopt=True)
        await _apply("take over half of them", probe, third, SESSIONS // 2)
        await _step("end of it: the others are taken out", probe, third.fast_path.tick())
        print(f"{len(third.fast_path.mirror.slot_of):,} bindings taken over")
    finally:
        program.close()


class _Relay:
    def __init__(self, program: KernelProgram, adopt: bool) -> None:
        settings = Settings()
        numbers = iter(range(1, 2**31))
        self.table = Table(settings.limits, lambda: next(numbers))
        self.engine = Engine(self.table)
        self.owner = TableOwner(self.table)
        bound_to = [(endpoint, "127.0.0.1") for endpoint in _ENDPOINTS]
        later: Callable[[Callable[[], None]], object] = asyncio.get_running_loop().call_soon
        self.fast_path = FastPath(
            settings=settings,
            engine=self.engine,
            endpoints=bound_to,
            program=program,
            pins=None,
            adopt=adopt,
            later=later,
            kept=NothingKept(),
        )
        settle()

    def bind_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for number in range(SESSIONS):
            for user in range(BOUND_PER_SESSION + number % 2):
                endpoint = _ENDPOINTS[user < BOUND_PER_SESSION]
                address = (f"198.51.100.{1 + user}", 1024 + number % 60_000)
                self.engine.handle(endpoint, encode_ping(_user(number, user), _session(number)), address, now)


def _session(number: int) -> int:
    return 0x1000_0000 + number


def _user(number: int, user: int) -> int:
    return 0x4000_0000 + number * USERS_PER_SESSION + user


def _snapshot(sessions: int) -> Snapshot:
    return Snapshot.of(
        [
            SessionSpec(
                f"{number:012x}",
                _session(number),
                tuple(UserSpec(_user(number, user), None) for user in range(USERS_PER_SESSION)),
            )
            for number in range(sessions)
        ]
    )


@contextmanager
def _timed(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{name:56} {time.perf_counter() - started:7.2f}")


async def _apply(name: str, probe: LoopProbe, relay: _Relay, sessions: int) -> None:
    snapshot = _snapshot(sessions)
    settle()
    await _step(name, probe, relay.owner.replace(snapshot))


async def _step(name: str, probe: LoopProbe, work: Coroutine[None, None, None]) -> None:
    task = asyncio.create_task(work)
    probe.longest()
    started = time.perf_counter()
    await probe.watch_until(task.done)
    await task
    held = probe.longest()
    took = time.perf_counter() - started
    print(f"{name:56} {took:7.2f}  {held.wall_seconds * 1e3:13.1f} {held.cpu_seconds * 1e3:18.1f}")
