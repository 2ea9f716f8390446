"""What an earlier relayd left pinned and this one cannot go on with: it is replaced, and nothing of it stays."""

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path

import pytest

from relayd.forwarding.kernel import layout, libbpf
from relayd.forwarding.kernel.attach import attach, attached_program, link_ifindex
from relayd.forwarding.kernel.fast_path import control
from relayd.forwarding.kernel.layout import Control
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.settings import Settings
from tests.integration.config import Sections, configuration, new_session
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID, Host, Player
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

_LO = 1

Spoil = Callable[[Pins, dict[str, BpfMap], Sections], str]
"""Makes pinned state, or the settings of the next relay, such that they do not fit; says what the log should."""


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Pins]:
    with own_network(), bpf_file_system(tmp_path / "bpf") as folder:
        yield Pins(folder / "relayd", "relay-1")


def play(host: Host, player: Player, opening: bytes) -> None:
    """Both are bound, and DATA goes both ways."""
    host.ping_until(VALID)
    player.say(opening)
    connection, payload = host.hear()
    assert payload == opening
    for _ in range(3):
        host.say(connection, b"welcome")
        assert player.hear() == b"welcome"
        player.say(GOES_ON)
        assert host.hear() == (connection, GOES_ON)


@contextmanager
def opened(pins: Pins) -> Iterator[dict[str, BpfMap]]:
    """The pinned maps."""
    maps = pins.maps()
    try:
        yield maps
    finally:
        for one in maps.values():
            os.close(one.fd)


def decided(totals: BpfMap) -> int:
    """How many datagrams a program has counted, in all."""
    processors = libbpf.library().libbpf_num_possible_cpus()
    entries = (totals.lookup(index.to_bytes(4, "little"), processors) or b"" for index in range(totals.max_entries))
    return sum(sum(memoryview(entry).cast("Q")[::2]) for entry in entries)


def of_another_version(pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    entry = Control.from_buffer_copy(maps["control"].lookup(bytes(4)) or b"")
    entry.layout_version += 1
    maps["control"].put(0, bytes(entry))
    return f"layout version {layout.LAYOUT_VERSION + 1}, this is {layout.LAYOUT_VERSION}"


def never_set_up(_pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    maps["control"].put(0, bytes(Control()))
    return "layout version 0"


def with_a_map_missing(pins: Pins, _maps: dict[str, BpfMap], _settings: Sections) -> str:
    (pins.folder / "map_states").unlink()
    return "maps missing or unknown: states"


def with_a_map_too_many(pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    libbpf.pin(maps["ended"].fd, str(pins.folder / "map_more"))
    return "maps missing or unknown: more"


def with_a_map_of_another_kind(pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    (pins.folder / "map_states").unlink()
    libbpf.pin(maps["sessions"].fd, str(pins.folder / "map_states"))
    return "laid out otherwise"


def with_no_map_left(pins: Pins, _maps: dict[str, BpfMap], _settings: Sections) -> str:
    for path in pins.folder.glob("map_*"):
        path.unlink()
    return "maps missing or unknown"


def of_other_ports(_pins: Pins, _maps: dict[str, BpfMap], settings: Sections) -> str:
    other = configuration()["relay"]
    settings["relay"] |= {key: other[key] for key in ("server_port", "client_port")}
    return "of other ports or addresses"


def of_other_addresses(_pins: Pins, _maps: dict[str, BpfMap], settings: Sections) -> str:
    settings["relay"]["bind"] = ["0.0.0.0"]
    return "of other ports or addresses"


def of_another_size(_pins: Pins, _maps: dict[str, BpfMap], settings: Sections) -> str:
    settings["fast_path"]["max_bound_users"] = 100
    return "of another size"


@pytest.mark.parametrize(
    "spoil",
    [
        of_another_version,
        never_set_up,
        with_a_map_missing,
        with_a_map_too_many,
        with_a_map_of_another_kind,
        with_no_map_left,
        of_other_ports,
        of_other_addresses,
        of_another_size,
    ],
)
def test_what_does_not_fit_is_replaced(spoil: Spoil, tmp_path: Path, pins: Pins) -> None:
    session = new_session("replaced")
    first = RelayProcess(tmp_path, [session], on_loopback(pins.folder.parents[1]))
    first.__enter__()
    with ExitStack() as stack, first.host(session) as host, first.player(session) as player:
        stack.callback(first.kill)
        play(host, player, OPENS_CONNECTION)
        eventually(lambda: both_served(first), "the kernel has both")
        first.kill()
        assert host.ping() == VALID, "it outlived the process"
        old_link = pins.links()["lo"]
        stack.callback(os.close, old_link)
        with opened(pins) as old:
            why = spoil(pins, old, first.settings)
            with RelayProcess(tmp_path, None, first.settings) as second:
                assert_replaced(second, why, old_link)
                before = decided(old["totals"])
                host.socket.connect(second.address("server"))
                player.socket.connect(second.address("client"))
                play(host, player, OPENS_CONNECTION)
                eventually(lambda: both_served(second), "the kernel has both")
                assert host.ping() == VALID
                assert decided(old["totals"]) == before, "the one of before decides nothing more"
        with opened(pins) as new:
            assert new.keys() == layout.VALUES.keys()
            assert decided(new["totals"]) > 0
    pins.remove()
    assert not attached_program(_LO)


def both_served(relay: RelayProcess) -> bool:
    return relay.metrics()["relayd_fast_path_bindings",] == 2


def assert_replaced(relay: RelayProcess, why: str, old_link: int) -> None:
    (line,) = relay.log_lines(event="pinned state of an earlier fast path does not fit: it is replaced")
    assert why in line["why"]
    assert not relay.log_lines(event="fast path goes on with what it served before")
    assert relay.metrics()["relayd_fast_path_up",] == 1
    assert not link_ifindex(old_link), "the one of before is off"


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang (Debian: clang)")
def test_a_program_with_other_maps_is_replaced(tmp_path: Path, pins: Pins) -> None:
    """As a later version's might be: longer entries, and a map that this version does not know."""
    program = KernelProgram.load(Sizes(8, 8), content=compiled(tmp_path), more_maps=("novelties",))
    pins.prepare()
    for one in program.maps.values():
        pins.pin_map(one)
    sections = configuration(on_loopback(pins.folder.parents[1]))
    settings = Settings.model_validate(sections)
    program.map("control").put(0, bytes(control(settings, layout.ControlFlag(0))))
    program.map("addresses").update(layout.pack_ip("127.0.0.1"), (1).to_bytes(4, "little"))
    link = attach(program.fd, "lo").fd
    with ExitStack() as stack:
        stack.callback(program.close)
        stack.callback(os.close, link)
        pins.pin_link("lo", link)
        session = new_session("later")
        relay = RelayProcess(tmp_path, [session], sections)
        with Player(("127.0.0.1", sections["relay"]["client_port"]), 1, 1) as stranger:
            stranger.send(b"short")
            assert decided(program.map("totals")) == 1
        with relay:
            assert_replaced(relay, "maps missing or unknown: novelties", link)
            with relay.host(session) as host, relay.player(session) as player:
                play(host, player, OPENS_CONNECTION)
        assert decided(program.map("totals")) == 1
    with opened(pins) as new:
        assert new.keys() == layout.VALUES.keys()
    pins.remove()


def compiled(folder: Path) -> bytes:
    """The program as it is, but for what is in its maps."""
    home = resources.files("relayd.forwarding.kernel")
    source = home.joinpath("relay.bpf.c").read_text(encoding="utf-8")
    changes = {
        "\t__u64 last_seen_ns;": "\t__u64 novelty;\n\t__u64 last_seen_ns;",
        "/* ---- One datagram": "struct {\n\t__uint(type, BPF_MAP_TYPE_ARRAY);\n\t__uint(max_entries, 1);\n"
        '\t__type(key, __u32);\n\t__type(value, __u32);\n} novelties SEC(".maps");\n\n/* ---- One datagram',
    }
    for old, new in changes.items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    (folder / "later.bpf.c").write_text(source, encoding="utf-8")
    flags = ["-O2", "-g", "-target", "bpfel", "-mcpu=v3", f"-I/usr/include/{platform.machine()}-linux-gnu", f"-I{home}"]
    subprocess.run(["clang", *flags, "-c", "later.bpf.c", "-o", "later.bpf.o"], cwd=folder, check=True)
    return (folder / "later.bpf.o").read_bytes()


def test_a_link_follows_its_name_and_not_its_interface(tmp_path: Path, pins: Pins) -> None:
    """The interface of the settings is now another one, and the one of before has another name."""
    ip("link", "add", "game0", "type", "veth", "peer", "name", "far0")
    sections = {"fast_path": {**on_loopback(pins.folder.parents[1])["fast_path"], "interfaces": ["game0"]}}
    with RelayProcess(tmp_path, [new_session("renamed")], sections) as relay:
        settings = relay.settings
    old = socket.if_nametoindex("game0")
    assert attached_program(old)
    ip("link", "set", "game0", "name", "was0")
    ip("link", "add", "game0", "type", "veth", "peer", "name", "far1")
    with RelayProcess(tmp_path, None, settings) as relay:
        assert relay.metrics()["relayd_fast_path_up",] == 1
        assert not attached_program(old)
        assert attached_program(socket.if_nametoindex("game0"))
        with opened(pins) as maps:
            assert [int.from_bytes(key, "little") for key, _ in maps["interfaces"].items()] == [
                socket.if_nametoindex("game0")
            ]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
