"""Interfaces that go, come back and lose what is sent by them, while the program is on them; the host is the test's."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView
from relayd.core.wire import Port
from relayd.errors import UnavailableError
from relayd.forwarding.kernel import attached, interfaces
from relayd.forwarding.kernel.interface_counters import Moved
from relayd.forwarding.kernel.interfaces import Interfaces
from relayd.forwarding.kernel.loss import FIRST_PAUSE_SECONDS
from relayd.forwarding.kernel.program import Sizes
from tests.support.kernel_maps import FakeProgram
from tests.unit.forwarding.kernel.test_starting import FakePins, Host, host

__all__ = ["host"]

FORWARDS, LOSES, AWAY, OFF = InterfaceState


class Counters:
    """What interfaces say was sent by them, and lost, since the last look."""

    say: dict[str, Moved] = {}  # noqa: RUF012 - the test's

    def __init__(self, interface: str) -> None:
        self._interface = interface

    def moved(self) -> Moved:
        return self.say.pop(self._interface, Moved(0, 0))


class Totals:
    """What the program counted."""

    def __init__(self) -> None:
        self.forwarded = 0

    def absorb(self) -> None:
        pass

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        return self.forwarded if (port, verdict) == (Port.CLIENT, Verdict.FORWARDED) else 0


class World:
    """A program on `eth0` and `eth1`, whose indexes are 2 and 3."""

    def __init__(self, host: Host, *names: str) -> None:
        self.host = host
        self.now = 1_000.0
        self.totals = Totals()
        self.program = FakeProgram(Sizes(10, 10))
        self.serving = 1
        self.told: list[bool] = []
        """After each look that changed something, whether some are left to the sockets."""
        pins: Any = FakePins(Path("/pins"), "relay")
        totals: Any = self.totals
        program: Any = self.program
        self.interfaces = Interfaces(
            names or ("eth0", "eth1"),
            program=program,
            pins=pins,
            totals=totals,
            serving=lambda: self.serving,
            clock=lambda: self.now,
        )
        self.problems = self.interfaces.attach_all({})

    def look(self, seconds: float = 1.0) -> None:
        self.now += seconds
        if asyncio.run(self.interfaces.look()):
            self.told.append(self.interfaces.some_left_to_sockets)

    def sent(self, interface: str, sent: int, lost: int) -> None:
        """And a look."""
        self.totals.forwarded += sent + lost
        Counters.say[interface] = Moved(sent, lost)
        self.look()

    def states(self) -> list[InterfaceState]:
        return [view.state for view in self.interfaces.views()]

    def view(self, interface: str = "eth0") -> InterfaceView:
        return next(view for view in self.interfaces.views() if view.name == interface)

    def sends_by(self) -> set[int]:
        """Indexes of the interfaces that the program may send by."""
        return {int.from_bytes(key, "little") for key, _ in self.program.map("interfaces").items()}


@pytest.fixture
def world(host: Host, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(attached, "InterfaceCounters", Counters)
    monkeypatch.setattr(Counters, "say", {})
    return World(host)


def test_one_that_is_deleted_and_made_anew_is_taken_up_again(world: World) -> None:
    assert (world.states(), world.sends_by(), world.problems) == ([FORWARDS, FORWARDS], {2, 3}, [])
    del world.host.interfaces["eth0"]
    with capture_logs() as logs:
        world.look()
        world.look()
    assert [line["interface"] for line in logs] == ["eth0"]
    assert (world.states(), world.sends_by(), world.interfaces.up) == ([AWAY, FORWARDS], {3}, False)
    assert set(world.host.pinned_links) == {"eth1"}
    assert "it is taken up when it comes" in world.view().way_out
    world.host.interfaces["eth0"] = 9
    with capture_logs() as logs:
        world.look()
    assert [line["event"] for line in logs] == ["fast path is on"]
    assert (world.states(), world.sends_by(), world.interfaces.up) == ([FORWARDS, FORWARDS], {9, 3}, True)
    assert set(world.host.pinned_links) == {"eth0", "eth1"}


def test_one_that_is_made_anew_between_two_looks(world: World) -> None:
    (fd,) = (fd for fd, name in world.host.on.items() if name == "eth0")
    world.host.on[fd] = "gone"
    world.host.interfaces["eth0"] = 9
    world.look()
    world.look()
    assert (world.states(), world.sends_by()) == ([FORWARDS, FORWARDS], {9, 3})


def test_one_that_is_renamed_is_let_go_and_taken_up_when_it_is_renamed_back(world: World) -> None:
    (fd,) = (fd for fd, name in world.host.on.items() if name == "eth0")
    world.host.on[fd] = "lan0"
    world.host.interfaces["lan0"] = world.host.interfaces.pop("eth0")
    world.look()
    assert world.host.detached == ["lan0"]
    assert (world.states(), world.sends_by()) == ([AWAY, FORWARDS], {3})
    world.host.interfaces["eth0"] = world.host.interfaces.pop("lan0")
    world.look()
    assert (world.states(), world.sends_by()) == ([FORWARDS, FORWARDS], {2, 3})


def test_one_that_comes_later(host: Host, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(interface: str) -> None:
        if interface not in host.interfaces:
            raise UnavailableError(f"no interface {interface}")

    monkeypatch.setattr(interfaces, "examine", examine)
    later = World(host, "wg0")
    assert later.problems == ["no interface wg0"]
    assert (later.states(), later.interfaces.awaited, later.interfaces.links) == ([AWAY], True, [])
    with capture_logs() as logs:
        later.look()
    assert logs == []
    host.interfaces["wg0"] = 7
    later.look()
    assert (later.states(), later.interfaces.awaited, later.sends_by()) == ([FORWARDS], False, {7})


def test_one_that_it_is_taken_off_is_left_alone(world: World) -> None:
    (fd,) = (fd for fd, name in world.host.on.items() if name == "eth0")
    del world.host.on[fd]
    with capture_logs() as logs:
        for _ in range(3):
            world.look()
    assert [line["event"] for line in logs] == [
        "the fast path was taken off an interface; the sockets serve what comes in there"
    ]
    assert (world.states(), world.sends_by()) == ([OFF, FORWARDS], {3})
    assert "restart relayd" in world.view().way_out


def test_one_that_the_kernel_refuses_is_asked_again_once_it_is_another(world: World) -> None:
    del world.host.interfaces["eth0"]
    world.look()
    world.host.interfaces["eth0"] = 9
    world.host.refused["eth0"] = "the kernel does not take it"
    with capture_logs() as logs:
        world.look()
        world.look()
    assert ["the kernel does not take it" in line["event"] for line in logs] == [True]
    world.host.refused.clear()
    world.look()
    assert (world.states()[0], world.view().way_out) == (OFF, "restart relayd when that has changed")
    world.host.interfaces["eth0"] = 10
    world.look()
    assert (world.states(), world.sends_by()) == ([FORWARDS, FORWARDS], {10, 3})


def test_one_that_something_is_in_the_way_of_is_taken_up_when_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(interface: str) -> None:
        raise UnavailableError(f"{interface}: another program is on it")

    del world.host.interfaces["eth0"]
    world.look()
    world.host.interfaces["eth0"] = 9
    with monkeypatch.context() as then, capture_logs() as logs:
        then.setattr(interfaces, "examine", examine)
        world.look()
        world.look()
    assert [line["event"] for line in logs] == ["eth0: another program is on it"]
    world.look()
    assert world.states() == [FORWARDS, FORWARDS]


def test_what_cannot_be_pinned_again_serves_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(*_: object) -> None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    del world.host.interfaces["eth0"]
    world.look()
    world.host.interfaces["eth0"] = 9
    monkeypatch.setattr(FakePins, "pin_link", removed)
    with capture_logs() as logs:
        world.look()
    assert "No such file" in logs[-1]["why"]
    assert (world.states(), world.sends_by()) == ([FORWARDS, FORWARDS], {9, 3})


# Losses ---------------------------------------------------------------------------------------------------------------


def test_one_that_loses_what_it_is_sent_is_left_to_the_sockets_and_tried_again(world: World) -> None:
    with capture_logs() as logs:
        world.sent("eth0", 0, 400)
    assert (logs[0]["interface"], logs[0]["lost"], logs[0]["again_in_seconds"]) == ("eth0", 400, 120)
    assert "ethtool -S eth0" in logs[0]["way_out"]
    assert (world.states(), world.sends_by(), world.told) == ([LOSES, FORWARDS], {3}, [True])
    view = world.view()
    assert (view.lost, view.lost_at, world.interfaces.lost) == (400, world.now, 400)
    assert view.problem.startswith("eth0 lost 400 datagrams that the kernel program sent by it: the sockets serve")
    world.look(FIRST_PAUSE_SECONDS - 1)
    assert world.states() == [LOSES, FORWARDS]
    world.look()
    assert (world.states(), world.sends_by(), world.told) == ([FORWARDS, FORWARDS], {2, 3}, [True, False])
    world.sent("eth0", 500, 0)
    assert (world.states(), world.interfaces.lost, world.view().lost) == ([FORWARDS, FORWARDS], 400, 400)


def test_another_that_carries_far_more_hides_nothing(world: World) -> None:
    world.totals.forwarded += 1_000_000
    world.sent("eth1", 0, 60)
    assert world.states() == [FORWARDS, LOSES]


def test_a_driver_that_does_not_say_what_was_sent_is_measured_by_what_the_program_sent(world: World) -> None:
    world.totals.forwarded += 100_000
    Counters.say["eth0"] = Moved(None, 900)
    world.look()
    assert (world.states(), world.interfaces.lost) == ([FORWARDS, FORWARDS], 900)
    world.totals.forwarded += 10_000
    Counters.say["eth0"] = Moved(None, 900)
    world.look()
    assert (world.states(), world.interfaces.lost) == ([LOSES, FORWARDS], 1_800)


def test_no_more_is_lost_than_there_was(world: World) -> None:
    world.totals.forwarded += 10
    Counters.say["eth0"] = Moved(0, 1_000)
    world.look()
    assert world.interfaces.lost == 10


def test_what_others_lose_while_the_sockets_serve_is_not_counted(world: World) -> None:
    world.sent("eth0", 0, 400)
    world.sent("eth0", 0, 3)
    assert world.interfaces.lost == 403, "these were under way"
    world.sent("eth0", 0, 90)
    assert world.interfaces.lost == 403


def test_one_that_goes_while_it_is_left_to_the_sockets_begins_anew(world: World) -> None:
    world.sent("eth0", 0, 400)
    del world.host.interfaces["eth0"]
    world.look()
    assert (world.states()[0], world.told[-1]) == (AWAY, False)
    world.host.interfaces["eth0"] = 9
    world.look()
    assert (world.states(), world.view().lost) == ([FORWARDS, FORWARDS], 400)


@pytest.mark.parametrize(("serving", "pause"), [(0, 1.0), (1, 0.1)])
def test_it_looks_more_often_while_that_may_save_something(world: World, serving: int, pause: float) -> None:
    world.serving = serving
    assert world.interfaces.pause_seconds == pause
    for _ in range(30):
        world.sent("eth0", 100, 0)
    assert world.interfaces.pause_seconds == pause, "the other has yet to show it"
    for _ in range(30):
        world.sent("eth1", 100, 0)
    assert world.interfaces.pause_seconds == 1.0
