"""The relay's ports in the hands of a thread: what it passes up is judged, and what it counted is added."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State, decode_state, encode_ping
from relayd.forwarding.thread import ports as module
from relayd.forwarding.thread.ports import NativePorts
from tests.support.forwarders import FakeForwarder, FakeRecords, Flow
from tests.support.relays import ALICE, ALICE_AT, SESSION, Relay
from tests.support.sockets import fake, fake_ports
from tests.support.virtual_loop import now, run, turns

PING = encode_ping(ALICE, SESSION)


class World:
    """Ports of a relay. To be made on the loop, whose clock is the relay's."""

    def __init__(self) -> None:
        self.relay = Relay()
        self.relay.now = now()
        self.sockets = fake_ports()
        self.records = FakeRecords()
        self.ports = NativePorts(self.relay.engine, self.sockets, self.records, merge=True)
        thread: Any = self.ports._forwarder
        assert isinstance(thread, FakeForwarder)
        self.thread = thread


@pytest.fixture(autouse=True)
def fake_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[FakeForwarder] = []

    def make(*arguments: Any) -> FakeForwarder:
        made.append(FakeForwarder(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "Forwarder", make)
    yield
    for one in made:
        one.close()


def started(work: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def with_world() -> None:
        world = World()
        await world.ports.start()
        try:
            await work(world)
        finally:
            if world.thread.running:
                world.ports.stop()

    run(with_world())


def test_the_thread_is_given_every_socket_and_what_it_may_do() -> None:
    async def work(world: World) -> None:
        assert world.thread.endpoints == [(one.socket.fileno(), one.endpoint.port) for one in world.sockets]
        assert world.thread.merge
        assert world.thread.running

    started(work)


def test_who_is_bound_before_the_thread_begins_is_the_threads_at_once() -> None:
    async def work() -> None:
        world = World()
        world.relay.player_pings()
        # Not a turn of the loop from here: after a restart, seconds of datagrams may wait for the thread.
        await world.ports.start()
        assert [flow.user for flow in world.thread.flows.values()] == [ALICE]
        await turns()
        assert len(world.thread.flows) == 1
        world.ports.stop()

    run(work())


def test_a_binding_that_the_thread_refuses_does_not_keep_it_from_beginning(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        world = World()
        world.relay.player_pings()
        world.relay.host_pings()
        (first, _) = world.ports._flows._to_link
        world.thread.flows[world.records.slot_of(first)] = Flow(0, ALICE_AT, 1, 2, 3, (0, 0, 0, 0))
        await world.ports.start()
        assert world.thread.running
        await turns()
        assert len(world.thread.flows) == 2
        world.ports.stop()

    run(work())
    assert "the forwarding thread refused a binding" in caplog.text


def test_what_is_passed_up_is_judged_and_answered_by_the_socket_it_came_by() -> None:
    async def work(world: World) -> None:
        world.thread.pass_up(1, PING, ALICE_AT)
        await turns()
        ((answer, to),) = fake(world.sockets[1]).taken()
        assert (decode_state(answer), to) == (State.VALID, ALICE_AT)
        assert [flow.user for flow in world.thread.flows.values()] == [ALICE], "from now on it is the thread's"

    started(work)


def test_very_much_that_is_passed_up_lets_the_loop_do_something_else_in_between() -> None:
    async def work(world: World) -> None:
        for number in range(1000):
            world.thread.pass_up(1, PING, ("192.0.2.9", 1 + number))
        seen: list[int] = []
        for _ in range(20):
            await asyncio.sleep(0)
            seen.append(sum(map(sum, world.relay.engine.counters.datagrams)))
        assert set(seen) - {0} == {256, 512, 768, 1000}

    started(work)


def test_what_was_passed_up_last_is_judged_before_the_sockets_are_closed() -> None:
    async def work(world: World) -> None:
        for _ in range(100):
            world.thread.pass_up(1, PING, ALICE_AT)
        world.ports.stop()
        assert world.relay.count(Port.CLIENT, Verdict.ANSWERED)[0] == 100
        assert not world.thread.running
        assert [one.socket.fileno() for one in world.sockets] == [-1, -1]

    started(work)


def test_its_totals_are_added_to_the_engines_once_by_port_and_verdict() -> None:
    async def work(world: World) -> None:
        world.thread.totals[Port.CLIENT][Verdict.FORWARDED] = [5, 500]
        world.thread.totals[Port.SERVER][Verdict.OVERLOADED] = [2, 200]
        for _ in range(2):
            world.ports.absorb(())
        assert world.relay.count(Port.CLIENT, Verdict.FORWARDED) == (5, 500)
        assert world.relay.count(Port.SERVER, Verdict.OVERLOADED) == (2, 200)
        assert world.relay.counted() == (7, 700)

    started(work)


def test_sessions_are_read_before_the_totals_so_that_they_are_never_more_than_the_whole() -> None:
    async def work(world: World) -> None:
        world.thread.pass_up(1, PING, ALICE_AT)
        await turns()
        (slot,) = world.thread.flows
        take_counts = world.thread.take_counts

        def then_one_more(number: int) -> tuple[int, ...]:
            """Forwards another between the two readings."""
            counts = take_counts(number)
            world.thread.count(slot, to_host=1)
            world.thread.totals[Port.CLIENT][Verdict.FORWARDED] = [2, 200]
            return counts

        world.thread.count(slot, to_host=1)
        world.thread.take_counts = then_one_more  # type: ignore[method-assign, assignment]  # for this test
        world.ports.absorb(world.relay.table.sessions.values())
        told = world.relay.table.sessions["game"].traffic().to_host_datagrams
        assert told <= world.relay.engine.forwarded().to_host_datagrams

    started(work)


def test_what_was_counted_last_is_added_at_the_end() -> None:
    async def work(world: World) -> None:
        world.thread.pass_up(1, PING, ALICE_AT)
        await turns()
        (slot,) = world.thread.flows
        world.thread.count(slot, to_host=3)
        world.ports.stop()
        assert world.relay.table.sessions["game"].traffic().to_host_datagrams == 3

    started(work)


def test_delays_are_a_histogram_with_the_bounds_of_the_thread() -> None:
    async def work(world: World) -> None:
        counts = tuple(range(len(DELAY_BOUNDS_NS.values) + 1))
        world.thread.delayed = (counts, 1.5)
        delays = world.ports.delays()
        assert (tuple(delays.counts), delays.sum_seconds) == (counts, 1.5)
        assert (delays.bounds_seconds[0], delays.bounds_seconds[-1]) == (250e-9, 0.25)
        assert len(world.ports.memory()) == 2

    started(work)


def test_a_thread_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAYOUT", 1)

    sockets = fake_ports()
    with pytest.raises(ValueError, match="another version"):
        NativePorts(Relay().engine, sockets, FakeRecords(), merge=True)
    for one in sockets:
        one.socket.close()
