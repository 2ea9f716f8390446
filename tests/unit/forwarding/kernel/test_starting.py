"""Starting the fast path: on which interfaces, over whose pins, and why not; the kernel's part is played."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.errors import UnavailableError
from relayd.forwarding.kernel import attached, examine, interfaces, start
from relayd.forwarding.kernel.attach import Link
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.interface_counters import Moved
from relayd.forwarding.kernel.layout import InterfaceMode
from relayd.forwarding.kernel.libbpf import LibraryMissingError
from relayd.forwarding.kernel.program import Sizes
from relayd.settings import Settings
from tests.support.fast_paths import RELAY_AT, FakeKept
from tests.support.kernel_maps import PROCESSORS, FakeProgram
from tests.support.relays import CLIENT, SERVER, Relay, spec


def descriptor() -> int:
    return os.open("/dev/null", os.O_RDONLY)


class Host:
    """Interfaces of a host, and what is pinned on it."""

    def __init__(self) -> None:
        self.interfaces = {"eth0": 2, "eth1": 3}
        self.refused: dict[str, str] = {}
        """Why an interface does not take the program."""
        self.on: dict[int, str] = {}
        """Interface of each link, by file descriptor."""
        self.pinned_links: dict[str, str] = {}
        """Interface that is named → the one that the link is on."""
        self.maps: dict[str, Any] = {}
        self.pinned = False
        self.why_no_pins = ""
        self.why_no_program = ""
        self.loads: list[bool] = []
        """Of each load, whether it took up pinned maps."""
        self.exchanged: list[str] = []
        self.detached: list[str] = []
        self.removed = 0

    def attach(self, program_fd: int, interface: str) -> Link:
        if interface in self.refused:
            raise UnavailableError(f"fast_path.interfaces: {interface}: {self.refused[interface]}")
        fd = descriptor()
        self.on[fd] = interface
        return Link(interface, self.interfaces[interface], InterfaceMode.NATIVE, fd)

    def link_ifindex(self, fd: int) -> int:
        return self.interfaces.get(self.on.get(fd, ""), 0)

    def exchange(self, link_fd: int, program_fd: int) -> None:
        self.exchanged.append(self.on[link_fd])

    def detach(self, fd: int) -> None:
        self.detached.append(self.on.pop(fd, ""))


class FakePins:
    host: Host

    def __init__(self, directory: Path, relay_id: str) -> None:
        self.folder = directory / relay_id

    def prepare(self) -> None:
        if self.host.why_no_pins:
            raise UnavailableError(self.host.why_no_pins)

    examine = prepare

    def maps(self) -> dict[str, Any]:
        return self.host.maps

    def links(self) -> dict[str, int]:
        found = {}
        for name, interface in self.host.pinned_links.items():
            found[name] = descriptor()
            self.host.on[found[name]] = interface
        return found

    def exist(self) -> bool:
        return self.host.pinned

    def pin_map(self, one: Any) -> None:
        self.host.pinned = True

    def pin_link(self, interface: str, fd: int) -> None:
        self.host.pinned_links[interface] = interface

    def unpin_link(self, interface: str) -> None:
        self.host.pinned_links.pop(interface, None)

    def remove(self) -> None:
        self.host.removed += 1
        self.host.pinned, self.host.maps = False, {}
        self.host.pinned_links.clear()


class FakeKernelProgram(FakeProgram):
    """Loaded as the host says."""

    host: Host

    @classmethod
    def load(cls, sizes: Sizes, pinned: Any = None) -> "FakeKernelProgram":
        if cls.host.why_no_program:
            raise UnavailableError(cls.host.why_no_program)
        cls.host.loads.append(pinned is not None)
        return cls(sizes)


class FakeCounters:
    """Of an interface by which nothing was sent."""

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def moved(self) -> Moved:
        return Moved(0, 0)


class FakePinnedMap:
    def __init__(self) -> None:
        self.fd = descriptor()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    one = Host()
    monkeypatch.setattr(FakePins, "host", one, raising=False)
    monkeypatch.setattr(FakeKernelProgram, "host", one, raising=False)
    for module in (start, examine):
        monkeypatch.setattr(module, "Pins", FakePins)
        monkeypatch.setattr(module, "KernelProgram", FakeKernelProgram)
    for name in ("attach", "link_ifindex", "exchange", "detach"):
        monkeypatch.setattr(interfaces, name, getattr(one, name))
    monkeypatch.setattr(interfaces, "examine", lambda _: None)
    monkeypatch.setattr(attached, "link_ifindex", one.link_ifindex)
    monkeypatch.setattr(attached, "driver", lambda _: "virtio_net")
    monkeypatch.setattr(attached, "InterfaceCounters", FakeCounters)
    monkeypatch.setattr(examine, "link_ifindex", one.link_ifindex)
    monkeypatch.setattr(interfaces, "attached_mode", lambda _: InterfaceMode.GENERIC)
    monkeypatch.setattr("relayd.forwarding.kernel.attached.socket.if_nameindex", lambda: [
        (index, name) for name, index in one.interfaces.items()
    ])  # fmt: skip
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", lambda _: {})
    monkeypatch.setattr("relayd.forwarding.kernel.counters.library", lambda: _Library)
    yield one
    for fd in one.on:
        try:
            os.close(fd)
        except OSError:
            continue


class _Library:
    @staticmethod
    def libbpf_num_possible_cpus() -> int:
        return PROCESSORS


def settings(mode: str = "auto", *interfaces: str) -> Settings:
    return Settings.model_validate({"fast_path": {"mode": mode, "interfaces": list(interfaces)}})


def started(mode: str = "auto", *interfaces: str) -> FastPath | None:
    return start.start_fast_path(
        settings=settings(mode, *interfaces),
        engine=Relay().engine,
        endpoints=[(SERVER, RELAY_AT), (CLIENT, RELAY_AT)],
        later=lambda work: work(),
        kept=FakeKept(),
    )


def running(mode: str = "auto", *interfaces: str) -> FastPath:
    found = started(mode, *interfaces)
    assert found is not None
    return found


def test_it_is_put_on_every_interface_that_is_named_and_pinned_there(host: Host) -> None:
    one = running("auto", "eth0", "eth1")
    assert [link.interface for link in one.interfaces.links] == ["eth0", "eth1"]
    assert one.up
    assert host.pinned
    assert set(host.pinned_links) == {"eth0", "eth1"}
    assert {key[0]: value[0] for key, value in one.program.map("interfaces").items()} == {
        2: InterfaceMode.NATIVE,
        3: InterfaceMode.NATIVE,
    }


def test_one_that_is_off_takes_away_what_is_left_of_it(host: Host) -> None:
    assert started("off", "eth0") is None
    assert host.removed == 0
    host.pinned = True
    with capture_logs():
        assert started("off", "eth0") is None
    assert host.removed == 1


def test_where_no_interface_is_named_it_is_off_and_says_so_where_it_may_be_on(host: Host) -> None:
    with capture_logs() as logs:
        assert started("auto") is None
    assert "fast_path.interfaces" in logs[0]["event"]
    with pytest.raises(UnavailableError, match=r"fast_path\.interfaces"):
        started("require")


def test_an_interface_that_does_not_take_it_leaves_it_on_the_others(host: Host) -> None:
    host.refused["eth1"] = "another program is on it"
    with capture_logs() as logs:
        one = running("auto", "eth0", "eth1")
    assert [link.interface for link in one.interfaces.links] == ["eth0"]
    assert any("another program is on it" in line["event"] for line in logs)


def test_where_none_takes_it_the_sockets_serve(host: Host) -> None:
    host.refused["eth0"] = "another program is on it"
    with capture_logs() as logs:
        assert started("auto", "eth0") is None
    assert "another program is on it" in "".join(line.get("why", "") for line in logs)


@pytest.mark.parametrize("why", ["refused", "program", "pins"])
def test_what_is_required_and_cannot_be_is_an_error(host: Host, why: str) -> None:
    if why == "refused":
        host.refused["eth1"] = "no right to"
    elif why == "program":
        host.why_no_program = "no right to"
    else:
        host.why_no_pins = "no right to"
    with capture_logs(), pytest.raises(UnavailableError, match="no right to"):
        started("require", "eth0", "eth1")


def test_without_a_place_for_pins_it_runs_all_the_same(host: Host) -> None:
    host.why_no_pins = "no BPF file system"
    with capture_logs() as logs:
        one = running("auto", "eth0")
    assert any("no BPF file system" in line["event"] for line in logs)
    one.stop(remove=False)
    assert host.detached == ["eth0"], "it would go on for nobody who could take it over"


def test_pinned_maps_that_fit_are_gone_on_with_and_their_program_exchanged(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "misfit", lambda *_: "")
    host.pinned, host.maps = True, {"pairs": FakePinnedMap()}
    host.pinned_links = {"eth0": "eth0", "eth1": "eth1"}
    one = running("auto", "eth0")
    assert host.loads == [True]
    assert host.exchanged == ["eth0"], "with no datagram between the two"
    assert host.detached == ["eth1"], "that is not named any more"
    assert set(host.pinned_links) == {"eth0"}
    assert not one.adopted
    assert one.interfaces.links[0].mode is InterfaceMode.GENERIC


def test_pinned_maps_that_do_not_fit_are_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "misfit", lambda *_: "they are of another version")
    host.pinned, host.maps = True, {"pairs": FakePinnedMap()}
    with capture_logs() as logs:
        one = running("auto", "eth0")
    assert host.loads == [False]
    assert host.removed == 1
    assert one.adopted
    assert "of another version" in logs[0]["why"]


def test_a_link_that_was_taken_off_or_is_on_another_interface_is_made_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "misfit", lambda *_: "")
    host.pinned, host.maps = True, {"pairs": FakePinnedMap()}
    host.pinned_links = {"eth0": "eth1"}
    one = running("auto", "eth0")
    assert host.exchanged == []
    assert [host.on[link.fd] for link in one.interfaces.links] == ["eth0"]


def test_what_the_system_refuses_is_one_sentence(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(FakePins, "pin_map", refused)
    with capture_logs(), pytest.raises(UnavailableError, match="Operation not permitted"):
        started("require", "eth0")


def remembered_programs(monkeypatch: pytest.MonkeyPatch) -> list[FakeKernelProgram]:
    """All that are loaded from now on."""
    programs: list[FakeKernelProgram] = []
    load = FakeKernelProgram.load

    def remembered(*args: Any) -> FakeKernelProgram:
        programs.append(load(*args))
        return programs[-1]

    monkeypatch.setattr(FakeKernelProgram, "load", remembered)
    return programs


@pytest.mark.parametrize("what", ["pin", "addresses"])
def test_what_fails_before_there_is_a_fast_path_leaves_no_program_open(
    host: Host, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if what == "pin":
        monkeypatch.setattr(FakePins, "pin_map", refused)
    else:
        monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", refused)
    programs = remembered_programs(monkeypatch)
    with capture_logs():
        assert started("auto", "eth0") is None
    assert [program.closed for program in programs] == [True]


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_pins_without_the_library_that_opens_them(host: Host, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    def missing(*_: object) -> None:
        raise LibraryMissingError("libbpf.so.1 cannot be loaded")

    monkeypatch.setattr(FakePins, "maps", missing)
    monkeypatch.setattr(FakePins, "remove", missing)
    host.pinned = True
    with capture_logs() as logs:
        if mode == "require":
            with pytest.raises(UnavailableError, match="libbpf"):
                started(mode, "eth0")
        else:
            assert started(mode, "eth0") is None
            assert [line["why"] for line in logs] == ["libbpf.so.1 cannot be loaded"] * 2


class FullPins(FakePins):
    """There is no room for another link."""

    def pin_link(self, interface: str, fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class LinksUnreadable(FakePins):
    """The links cannot be opened."""

    def links(self) -> dict[str, int]:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(("pins", "taken_off"), [(FullPins, ["eth0"]), (LinksUnreadable, [])])
def test_what_fails_on_the_way_leaves_nothing_on_and_nobody_who_follows(
    host: Host, monkeypatch: pytest.MonkeyPatch, pins: type[FakePins], taken_off: list[str]
) -> None:
    """Else a program without a relay would go on judging datagrams, and count what nobody reads."""
    monkeypatch.setattr(start, "Pins", pins)
    monkeypatch.setattr(start, "misfit", lambda *_: "")
    host.pinned, host.maps = True, {"pairs": FakePinnedMap()}
    programs = remembered_programs(monkeypatch)
    relay = Relay()
    with capture_logs() as logs:
        found = start.start_fast_path(
            settings=settings("auto", "eth0"),
            engine=relay.engine,
            endpoints=[(SERVER, RELAY_AT), (CLIENT, RELAY_AT)],
            later=lambda work: work(),
            kept=FakeKept(),
        )
    assert found is None
    assert "cannot be set up" in logs[-1]["why"]
    assert host.detached == taken_off
    assert [program.closed for program in programs] == [True]
    before = dict(programs[0].map("pairs").entries)
    relay.apply(spec())
    relay.player_pings()
    assert programs[0].map("pairs").entries == before


def test_it_stays_on_at_the_end_unless_it_is_to_go(host: Host) -> None:
    running("auto", "eth0").stop(remove=False)
    assert (host.detached, host.removed) == ([], 0)
    host.pinned_links.clear()
    host.pinned = False
    running("auto", "eth0").stop(remove=True)
    assert (host.detached, host.removed) == (["eth0"], 1)


# relayd check ------------------------------------------------------------------------------------------------


@pytest.fixture
def examined(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    def look(interface: str) -> int:
        if interface in host.refused:
            raise UnavailableError(host.refused[interface])
        return host.interfaces[interface]

    monkeypatch.setattr(examine, "examine", look)
    monkeypatch.setattr(examine, "driver", lambda _: "virtio_net")
    monkeypatch.setattr(FakeKernelProgram, "close", lambda _: None)
    return host


def test_what_a_host_has_for_it(examined: Host) -> None:
    findings = examine.examine_fast_path(settings("auto", "eth0"))
    assert all(line.startswith("ok ") for line in findings)
    assert any("eth0 is free" in line and "virtio_net" in line for line in findings)


def test_an_interface_that_has_it_already(examined: Host) -> None:
    examined.pinned_links = {"eth0": "eth0"}
    assert any("is on eth0 already" in line for line in examine.examine_fast_path(settings("auto", "eth0")))


def test_what_a_host_lacks_is_a_warning_or_an_error_where_it_is_required(examined: Host) -> None:
    examined.refused["eth0"] = "another program is on it"
    examined.why_no_pins = "no BPF file system"
    findings = examine.examine_fast_path(settings("auto", "eth0"))
    assert [line for line in findings if line.startswith("warning")] == [
        "warning  another program is on it",
        "warning  no BPF file system",
    ]
    with pytest.raises(UnavailableError, match="another program is on it\nno BPF file system"):
        examine.examine_fast_path(settings("require", "eth0"))


def test_a_kernel_that_does_not_take_the_program(examined: Host) -> None:
    examined.why_no_program = "this kernel has no BPF"
    assert "warning  this kernel has no BPF" in examine.examine_fast_path(settings("auto", "eth0"))


@pytest.mark.parametrize(("mode", "interfaces"), [("off", ["eth0"]), ("auto", [])])
def test_one_that_is_off_needs_nothing(examined: Host, mode: str, interfaces: list[str]) -> None:
    (finding,) = examine.examine_fast_path(settings(mode, *interfaces))
    assert finding.startswith("ok       fast path is off")


def test_one_that_is_required_and_has_no_interface(examined: Host) -> None:
    with pytest.raises(UnavailableError, match=r"fast_path\.interfaces"):
        examine.examine_fast_path(settings("require"))
