"""Programs on interfaces where the fast path has none to be: said, and taken off by what is said."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.engine import Engine
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.forwarding.kernel import layout, libbpf
from relayd.forwarding.kernel.attach import attach, attached_program, link_program
from relayd.forwarding.kernel.examine import examine_fast_path
from relayd.forwarding.kernel.fast_path import control
from relayd.forwarding.kernel.libbpf import BpfError, checked, library
from relayd.forwarding.kernel.occupants import unexpected
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.forwarding.kernel.start import start_fast_path
from relayd.forwarding.kernel.taking_off import xdp_links
from relayd.settings import Settings
from tests.integration.fast_path import bpf_file_system, own_network
from tests.scenarios.skips import needs_kernel
from tests.support.command_line import CommandLine
from tests.support.kept import NothingKept

pytestmark = needs_kernel

LO = 1
XDP, GENERIC = 6, 1 << 1
PASSES_ALL = (0x2_0000_00B7).to_bytes(8, "little") + (0x95).to_bytes(8, "little")
"""r0 = XDP_PASS; exit"""


@pytest.fixture(autouse=True)
def _network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture(scope="module")
def program() -> Iterator[KernelProgram]:
    """relayd's."""
    program = KernelProgram.load(Sizes(1, 1))
    yield program
    program.close()


@pytest.fixture(scope="module")
def foreign() -> Iterator[int]:
    load = ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_prog_load
    content = ctypes.create_string_buffer(PASSES_ALL, len(PASSES_ALL))
    fd = checked(load(XDP, b"somebodys", b"GPL", content, ctypes.c_size_t(2), None), "load")
    yield fd
    os.close(fd)


@pytest.fixture
def relayd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    ports = {"server_port": 7777, "client_port": 7778}
    return CommandLine(tmp_path, capsys, {"relay": ports, "fast_path": {"pin_directory": str(tmp_path / "pins")}})


def settings(pins: Path, mode: str = "off", server_port: int = 7777, *interfaces: str) -> Settings:
    return Settings.model_validate(
        {
            "relay": {"server_port": server_port, "client_port": 7778},
            "fast_path": {"mode": mode, "interfaces": interfaces, "pin_directory": str(pins)},
        }
    )


def put_on(program: KernelProgram, wanted: Settings, elsewhere: Path) -> int:
    """As a relay of those settings left it, which pinned it elsewhere."""
    program.map("control").put(0, bytes(control(wanted, layout.ControlFlag(0))))
    fd = attach(program.fd, "lo").fd
    number = link_program(fd)
    libbpf.pin(fd, str(elsewhere / f"link{number}-{wanted.relay.server_port}"))
    os.close(fd)
    return number


def put_on_without_a_link(fd: int) -> None:
    checked(ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_xdp_attach(LO, fd, GENERIC, None), "attach")


def as_told(sentence: str) -> None:
    """Does what a sentence says takes it off."""
    command = sentence.split("`")[-2].split()
    if command[0] == "bpftool":  # it need not be installed: this is what it does
        *what, number = command
        assert what == ["bpftool", "link", "detach", "id"]
        fd = checked(library().bpf_link_get_fd_by_id(int(number)), "open")
        checked(library().bpf_link_detach(fd), "detach")
        os.close(fd)
    else:
        subprocess.run(command, check=True)


def test_a_leftover_of_this_relay_is_said_and_removed(
    program: KernelProgram, tmp_path: Path, relayd: CommandLine
) -> None:
    off = settings(tmp_path / "pins")
    with bpf_file_system(tmp_path / "bpf") as elsewhere:
        number = put_on(program, off, elsewhere)
        for wanted in (off, settings(tmp_path / "pins", "auto")):
            *_, warning = examine_fast_path(wanted, Path("/etc/relayd/a b.toml"))
            assert warning.startswith(
                f"warning  XDP program {number} is on lo, relayd's and for the ports and addresses of this relay"
            )
            assert warning.endswith("`relayd fast-path remove --config '/etc/relayd/a b.toml'` takes it off")
        with capture_logs() as logs:
            engine = Engine(Table(Limits(), lambda: 1))
            start_fast_path(
                settings=off,
                engine=engine,
                endpoints=[],
                later=lambda _: None,
                kept=NothingKept(),
                config=Path("/etc/relayd/a b.toml"),
            )
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [warning.removeprefix("warning  ")]
        out = relayd("fast-path", "remove").out
        assert f"removed from lo: XDP program {number}, kept elsewhere" in out
        assert attached_program(LO) == 0
        assert unexpected(off, None) == []


def test_another_relays_is_said_and_left_alone(program: KernelProgram, tmp_path: Path, relayd: CommandLine) -> None:
    with bpf_file_system(tmp_path / "bpf") as elsewhere:
        number = put_on(program, settings(tmp_path, "off", 9999), elsewhere)
        ((sentence, _),) = unexpected(settings(tmp_path), None)
        assert f"XDP program {number} is on lo, relayd's, for other ports or addresses or of another" in sentence
        said = relayd("fast-path", "remove").out
        assert f"left alone: XDP program {number} is on lo, relayd's, for other ports or addresses" in said
        assert attached_program(LO) == number
        as_told(sentence)
        assert attached_program(LO) == 0


@pytest.mark.parametrize("bind", [["10.9.2.1"], ["10.9.1.1"]], ids=["other addresses", "its own addresses"])
def test_that_of_a_relay_that_runs_is_neither_said_nor_taken_off(
    program: KernelProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str], bind: list[str]
) -> None:
    """A second one beside it, of the same ports: it has its link open."""
    relay = {"server_port": 7777, "client_port": 7778}
    first: dict[str, dict[str, Any]] = {
        "relay": {**relay, "bind": ["10.9.1.1"]},
        "fast_path": {"pin_directory": str(tmp_path / "pins")},
    }
    second = Settings.model_validate({"relay": {**relay, "bind": bind}})
    program.map("control").put(0, bytes(control(second, layout.ControlFlag(0))))
    link = attach(program.fd, "lo")
    try:
        assert unexpected(Settings.model_validate(first), None) == []
        out = CommandLine(tmp_path, capsys, first)("fast-path", "remove").out
        assert attached_program(LO) == link_program(link.fd)
        in_use = f"XDP program {link_program(link.fd)} is on lo, relayd's, and process {os.getpid()} uses it"
        assert (in_use in out) == (bind == ["10.9.1.1"])
    finally:
        os.close(link.fd)


def test_one_of_other_addresses_that_nobody_uses_is_left_alone(
    program: KernelProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = {"server_port": 7777, "client_port": 7778}
    first: dict[str, dict[str, Any]] = {
        "relay": {**relay, "bind": ["10.9.1.1"]},
        "fast_path": {"pin_directory": str(tmp_path / "pins")},
    }
    second = Settings.model_validate({"relay": {**relay, "bind": ["10.9.2.1"]}})
    with bpf_file_system(tmp_path / "bpf") as elsewhere:
        number = put_on(program, second, elsewhere)
        out = CommandLine(tmp_path, capsys, first)("fast-path", "remove").out
        assert f"left alone: XDP program {number} is on lo, relayd's, for other ports or addresses" in out
        assert attached_program(LO) == number


def test_a_foreign_one_is_said(foreign: int, tmp_path: Path) -> None:
    put_on_without_a_link(foreign)
    ((sentence, _),) = unexpected(settings(tmp_path), None)
    assert "is on lo, somebodys and not relayd's" in sentence
    assert "if it is not wanted, `" in sentence
    as_told(sentence)
    assert attached_program(LO) == 0


def test_one_that_is_in_the_way_is_taken_off_by_what_is_said(foreign: int, tmp_path: Path) -> None:
    """With a link or without one; and on an interface of the fast path only once."""
    wanted = settings(tmp_path, "auto", 7777, "lo")
    for link in (True, False):
        held = attach(foreign, "lo").fd if link else None
        if held is None:
            put_on_without_a_link(foreign)
        (warning,) = (line for line in examine_fast_path(wanted) if "XDP program" in line)
        assert "is on it already and is not displaced" in warning
        as_told(warning)
        assert attached_program(LO) == 0
        if held is not None:
            os.close(held)


def test_who_may_not_look_is_told_who_may(
    program: KernelProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = attach(program.fd, "lo")

    def refused(_number: int) -> None:
        raise BpfError(1, "look")

    monkeypatch.setattr("relayd.forwarding.kernel.occupants._program", refused)
    monkeypatch.setattr("relayd.forwarding.kernel.occupants.link_holding", lambda *_: 0)
    (found,) = unexpected(settings(tmp_path), None)
    assert found == (f"XDP program {link_program(link.fd)} is on lo: `relayd check` as root says whose it is", False)
    os.close(link.fd)


def test_links_are_those_of_xdp(program: KernelProgram) -> None:
    link = attach(program.fd, "lo")
    assert (link_program(link.fd), LO) in {(one.program, one.ifindex) for one in xdp_links()}
    os.close(link.fd)
    assert attached_program(LO) == 0
