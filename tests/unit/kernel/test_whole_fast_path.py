"""The fast path put on, kept, taken over and taken off, on the loopback interface of a network of its own."""

import asyncio
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.table import Table
from relayd.core.wire import Port, encode_ping
from relayd.errors import UnavailableError
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.attach import (
    attach,
    attached_mode,
    attached_program,
    detach,
    examine,
    link_ifindex,
    link_program,
    mtu_bytes,
)
from relayd.forwarding.kernel.ethtool import driver
from relayd.forwarding.kernel.examine import examine_fast_path
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.layout import ControlFlag, InterfaceMode
from relayd.forwarding.kernel.libbpf import BpfError, XdpQuery, kind_of
from relayd.forwarding.kernel.pins import Pins, in_bpf_file_system
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.forwarding.kernel.start import start_fast_path
from relayd.settings import Settings
from tests.integration.fast_path import bpf_file_system, own_network
from tests.scenarios.skips import needs_kernel
from tests.support.descriptors import open_descriptors
from tests.support.kept import NothingKept

pytestmark = needs_kernel

LO = 1
ENDPOINTS = [(Endpoint(Port(number), number), "127.0.0.1") for number in range(2)]
SESSION, HOST, ALICE = 0xCAFE, 10, 11


@pytest.fixture(name="pins", scope="module")
def _pins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where to pin."""
    with bpf_file_system(tmp_path_factory.mktemp("fast-path") / "bpf") as folder:
        yield folder


@pytest.fixture(autouse=True)
def _network(pins: Path) -> Iterator[None]:
    with own_network():
        yield
    for left in pins.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


@pytest.fixture(name="program", scope="module")
def _program() -> Iterator[KernelProgram]:
    program = KernelProgram.load(Sizes(1, 1))
    yield program
    program.close()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def settings(pins: Path, limits: dict[str, object] | None = None, **fast_path: object) -> Settings:
    sizes = {"max_bound_users": 20, "max_authorized_users": 50}
    wanted = {"mode": "require", "interfaces": ["lo"], "pin_directory": str(pins / "relayd"), **sizes, **fast_path}
    return Settings.model_validate({"relay": {"id": "here"}, "limits": limits or {}, "fast_path": wanted})


def start(wanted: Settings) -> tuple[FastPath | None, Table, Engine]:
    table = Table(wanted.limits, iter(range(1, 1000)).__next__)
    engine = Engine(table)
    fast_path = start_fast_path(
        settings=wanted, engine=engine, endpoints=ENDPOINTS, later=lambda _function: None, kept=NothingKept()
    )
    return fast_path, table, engine


def started(wanted: Settings) -> FastPath:
    fast_path, _, _ = start(wanted)
    assert fast_path is not None
    return fast_path


def authorize(table: Table, *users: int) -> None:
    table.apply(Snapshot.of([SessionSpec("game", SESSION, tuple(UserSpec(user, None) for user in users))]), 1.0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def said(logs: list[Any]) -> list[str]:
    return [str(line["event"]) for line in logs]


# Attaching ------------------------------------------------------------------------------------------------------------


def test_on_an_interface_whose_driver_cannot_it_is_generic(program: KernelProgram) -> None:
    assert attached_program(LO) == 0
    link = attach(program.fd, "lo")
    assert (link.interface, link.ifindex, link.mode) == ("lo", LO, InterfaceMode.GENERIC)
    assert link.why_not_native == f"driver unknown: {os.strerror(errno.EOPNOTSUPP)}"
    assert attached_mode(LO) is InterfaceMode.GENERIC
    assert attached_program(LO) == link_program(link.fd) > 0
    assert link_ifindex(link.fd) == LO
    detach(link.fd)
    assert (attached_program(LO), link_ifindex(link.fd)) == (0, 0)
    detach(link.fd)  # once more is nothing
    os.close(link.fd)


def test_on_one_whose_driver_can_it_is_native(program: KernelProgram) -> None:
    ip("link", "add", "here", "mtu", "1260", "type", "veth", "peer", "name", "there")
    link = attach(program.fd, "here")
    assert link.mode is attached_mode(link.ifindex) is InterfaceMode.NATIVE
    assert link.why_not_native == ""
    assert (driver("here"), mtu_bytes("here")) == ("veth", 1260)
    os.close(link.fd)
    assert attached_program(link.ifindex) == 0


def test_an_interface_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnavailableError, match=r"no interface eth7; there are lo$"):
        examine("eth7")


def test_a_small_mtu_is_refused() -> None:
    ip("link", "set", "lo", "mtu", "1259")
    with pytest.raises(UnavailableError, match="lo: its MTU is 1259, and the fast path needs 1260"):
        examine("lo")


def test_another_program_is_not_displaced(program: KernelProgram) -> None:
    link = attach(program.fd, "lo")
    with pytest.raises(UnavailableError, match=rf"lo: XDP program {link_program(link.fd)} is on it already"):
        attach(program.fd, "lo")
    os.close(link.fd)
    assert examine("lo") == LO


def test_an_interface_without_a_driver_has_an_unknown_one() -> None:
    assert driver("eth7") == "unknown"


# Pins -----------------------------------------------------------------------------------------------------------------


def test_what_is_in_a_bpf_file_system_is_known(pins: Path, tmp_path: Path) -> None:
    assert in_bpf_file_system(pins)
    assert in_bpf_file_system(pins / "not" / "there" / "yet")
    assert not in_bpf_file_system(tmp_path)


def test_elsewhere_nothing_can_be_pinned(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is in no BPF file system, so the fast path would end with the process"):
        Pins(tmp_path, "here").prepare()
    assert list(tmp_path.iterdir()) == []


def test_any_name_of_a_relay_or_an_interface_can_be_pinned(pins: Path, program: KernelProgram) -> None:
    ip("link", "add", "wan.7_ü", "type", "veth", "peer", "name", "there")
    own = Pins(pins / "relayd", "relay.1/ä")
    own.prepare()
    assert own.folder.name == "relay_2e1_2f_c3_a4"
    assert not own.exist()
    link = attach(program.fd, "wan.7_ü")
    own.pin_link("wan.7_ü", link.fd)
    os.close(link.fd)
    assert own.exist()
    (found,) = own.links().items()
    assert found[0] == "wan.7_ü"
    assert (kind_of(found[1]), link_ifindex(found[1])) == ("bpf-link", link.ifindex)
    os.close(found[1])
    own.unpin_link("wan.7_ü")
    own.unpin_link("wan.7_ü")
    assert own.links() == {}
    assert not own.exist()


def test_a_map_that_is_pinned_as_a_link_is_none(pins: Path, program: KernelProgram) -> None:
    own = Pins(pins, "here")
    own.prepare()
    own.pin_map(program.map("control"))
    (own.folder / "map_control").rename(own.folder / "link_lo")
    before = open_descriptors()
    assert (own.links(), own.maps()) == ({}, {})
    assert open_descriptors() <= before


def test_where_nothing_was_made_nothing_is_pinned(pins: Path) -> None:
    own = Pins(pins, "nobody")
    assert (own.exist(), own.maps(), own.links()) == (False, {}, {})
    own.remove()


# Started, and kept ----------------------------------------------------------------------------------------------------


def test_it_is_put_on_and_kept_and_the_next_process_goes_on_with_it(pins: Path) -> None:
    wanted = settings(pins)
    with capture_logs() as logs:
        first, table, engine = start(wanted)
    assert [(line["event"], line["interface"], line["mode"]) for line in logs] == [("fast path is on", "lo", "generic")]
    assert first is not None
    assert first.adopted
    assert (first.up, [link.interface for link in first.interfaces.links]) == (True, ["lo"])
    folder = pins / "relayd" / "here"
    assert names(folder) == {"link_lo", *(f"map_{name}" for name in first.program.maps)}
    interfaces = dict(first.program.map("interfaces").items())
    assert interfaces == {LO.to_bytes(4, "little"): int(InterfaceMode.GENERIC).to_bytes(4, "little")}
    authorize(table, HOST, ALICE)
    engine.handle(ENDPOINTS[1][0], encode_ping(ALICE, SESSION), ("127.0.0.1", 4000), 1.0)
    first.mirror.flush()
    assert first.bindings_served == 1
    program = attached_program(LO)
    first.stop(remove=False)
    assert attached_program(LO) == program

    second, table, _ = start(wanted)
    assert second is not None
    assert second.adoption is not None
    assert not second.adopted
    assert second.up
    assert attached_program(LO) not in (0, program)
    authorize(table, HOST, ALICE)
    assert second.bindings_served == 1
    with capture_logs() as logs:
        asyncio.run(second.tick())
    assert said(logs) == ["fast path goes on with what it served before"]
    assert logs[0]["bindings"] == 1
    assert second.adopted
    second.stop(remove=True)
    assert (attached_program(LO), folder.exists()) == (0, False)


def test_one_that_is_pinned_nowhere_ends_with_its_process(tmp_path: Path) -> None:
    with capture_logs() as logs:
        fast_path = started(settings(tmp_path, mode="auto"))
    assert "is in no BPF file system" in said(logs)[0]
    assert attached_program(LO) != 0
    fast_path.stop(remove=False)
    assert attached_program(LO) == 0
    with pytest.raises(UnavailableError, match="is in no BPF file system"):
        start(settings(tmp_path))


def test_an_interface_that_is_no_longer_wanted_is_let_go(pins: Path) -> None:
    ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    first = started(settings(pins, interfaces=["lo", "here"]))
    index = first.interfaces.links[1].ifindex
    first.stop(remove=False)
    second = started(settings(pins, interfaces=["lo"]))
    assert [link.interface for link in second.interfaces.links] == ["lo"]
    assert (attached_program(index), attached_program(LO) != 0) == (0, True)
    assert "link_here" not in names(pins / "relayd" / "here")
    assert [key for key, _ in second.program.map("interfaces").items()] == [LO.to_bytes(4, "little")]
    second.stop(remove=True)


def test_one_interface_of_two_is_not_there(pins: Path) -> None:
    with capture_logs() as logs:
        fast_path = started(settings(pins, mode="auto", interfaces=["eth7", "lo"]))
    assert [link.interface for link in fast_path.interfaces.links] == ["lo"]
    assert any("no interface eth7" in line for line in said(logs))
    fast_path.stop(remove=True)
    with pytest.raises(UnavailableError, match="no interface eth7"):
        start(settings(pins, interfaces=["lo", "eth7"]))
    assert attached_program(LO) == 0
    waiting = started(settings(pins, mode="auto", interfaces=["eth7"]))
    assert (waiting.up, waiting.interfaces.awaited) == (False, True)
    waiting.stop(remove=True)


def test_what_is_switched_off_is_taken_off(pins: Path) -> None:
    started(settings(pins)).stop(remove=False)
    assert attached_program(LO) != 0
    with capture_logs() as logs:
        assert start(settings(pins, mode="off"))[0] is None
    assert said(logs) == ["pinned state of an earlier fast path is removed"]
    assert (attached_program(LO), (pins / "relayd" / "here").exists()) == (0, False)
    with capture_logs() as logs:
        assert start(settings(pins, mode="auto", interfaces=[]))[0] is None
    assert len(logs) == 1
    with pytest.raises(UnavailableError, match="names none"):
        start(settings(pins, interfaces=[]))


def test_pinned_maps_of_another_size_are_replaced(pins: Path) -> None:
    started(settings(pins)).stop(remove=False)
    program = attached_program(LO)
    with capture_logs() as logs:
        fast_path = started(settings(pins, max_bound_users=21))
    assert "pinned state of an earlier fast path does not fit: it is replaced" in said(logs)
    assert fast_path.adoption is None
    assert attached_program(LO) not in (0, program)
    fast_path.stop(remove=True)


def test_taken_off_by_somebody_else_it_is_said_once(pins: Path) -> None:
    fast_path = started(settings(pins))
    with capture_logs() as logs:
        asyncio.run(fast_path.look())
        assert said(logs) == []
        detach(fast_path.interfaces.links[0].fd)
        for _ in range(2):
            asyncio.run(fast_path.look())
            assert not fast_path.up
    assert said(logs) == ["the fast path was taken off an interface; the sockets serve what comes in there"]
    fast_path.stop(remove=True)


def flags(fast_path: FastPath) -> ControlFlag:
    raw = fast_path.program.map("control").lookup((0).to_bytes(4, "little"))
    return ControlFlag(layout.Control.from_buffer_copy(raw or b"").flags)


def test_the_program_is_told_of_pinned_addresses_and_of_pairs_that_found_no_room(pins: Path) -> None:
    fast_path, table, _ = start(settings(pins))
    assert fast_path is not None
    assert flags(fast_path) == ControlFlag(0)
    authorize(table, *range(1, 60))
    asyncio.run(fast_path.tick())
    assert flags(fast_path) == ControlFlag.PAIRS_INCOMPLETE
    fast_path.stop(remove=True)
    fast_path = started(settings(pins, limits={"pin_ip": True}))
    assert flags(fast_path) == ControlFlag.PIN_IP
    fast_path.stop(remove=True)


# What `relayd check` says ---------------------------------------------------------------------------------------------


def test_check_says_whether_this_host_can_have_it(pins: Path) -> None:
    lines = examine_fast_path(settings(pins))
    assert len(lines) == 3
    assert lines[0].endswith("takes the fast path's program")
    assert lines[1].startswith("ok       lo is free for the fast path (driver ")
    assert lines[2].endswith("keeps the fast path over a restart")
    fast_path = started(settings(pins))
    assert examine_fast_path(settings(pins))[1] == "ok       fast path is on lo already"
    fast_path.stop(remove=True)


def test_check_warns_or_refuses(pins: Path, tmp_path: Path) -> None:
    lines = examine_fast_path(settings(tmp_path, mode="auto", interfaces=["eth7", "lo"]))
    assert [line[:8].strip() for line in lines] == ["ok", "ok", "warning", "warning"]
    with pytest.raises(UnavailableError, match=r"no interface eth7[^\n]*\n[^\n]*is in no BPF file system"):
        examine_fast_path(settings(tmp_path, interfaces=["eth7"]))
    assert examine_fast_path(settings(pins, mode="off")) == ["ok       fast path is off: fast_path.mode"]
    (line,) = examine_fast_path(settings(pins, mode="auto", interfaces=[]))
    assert line.startswith("ok       fast path is off: fast_path.interfaces names none")
    with pytest.raises(UnavailableError, match="names none"):
        examine_fast_path(settings(pins, interfaces=[]))


@pytest.mark.parametrize("field", ["prog_id", "drv_prog_id", "skb_prog_id", "hw_prog_id"])
def test_another_program_is_seen_wherever_it_is(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = XdpQuery()
    setattr(query, field, 7)
    monkeypatch.setattr("relayd.forwarding.kernel.attach._query", lambda _ifindex: query)
    assert attached_program(LO) == 7


def test_an_interface_that_was_made_anew_meanwhile_gets_the_program_again(pins: Path) -> None:
    def make() -> None:
        ip("link", "add", "here", "type", "veth", "peer", "name", "there")

    make()
    started(settings(pins, interfaces=["here"])).stop(remove=False)
    ip("link", "delete", "here")
    make()
    fast_path = started(settings(pins, interfaces=["here"]))
    assert fast_path.up
    assert attached_program(fast_path.interfaces.links[0].ifindex) != 0
    fast_path.stop(remove=True)


def test_nothing_stays_open_of_what_was_pinned(pins: Path) -> None:
    started(settings(pins)).stop(remove=False)
    ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    before = open_descriptors()
    for _ in range(2):
        started(settings(pins)).stop(remove=False)
        started(settings(pins, interfaces=["lo", "here"])).stop(remove=False)
    started(settings(pins, max_bound_users=21)).stop(remove=True)
    assert open_descriptors() <= before


def test_one_that_was_taken_off_already_need_not_be_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(number: int) -> None:
        library = SimpleNamespace(bpf_link_detach=lambda _fd: -number)
        monkeypatch.setattr("relayd.forwarding.kernel.attach.library", lambda: library)

    for number in (0, errno.ENOLINK):
        answers(number)
        detach(7)
    answers(errno.EPERM)
    with pytest.raises(BpfError, match="detach"):
        detach(7)
