"""What an earlier relayd left pinned and this one cannot go on with: it is replaced, and nothing of it stays."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from relayd.core.declaration.kernel_maps import MAPS
from relayd.forwarding.kernel import layout, libbpf
from relayd.forwarding.kernel.attach import attached_program, link_ifindex
from relayd.forwarding.kernel.layout import Control
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.pins import Pins
from tests.integration.config import Sections, configuration, new_session
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID, Host, Player
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel
from tests.support.versions import with_one_more_verdict
from tests.unit.kernel.test_object import unfit_compiler

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
    entry.layout ^= 1
    maps["control"].put(0, bytes(entry))
    return f"layout {entry.layout:016x}, this is {layout.DIGEST:016x}"


def never_set_up(_pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    maps["control"].put(0, bytes(Control()))
    return f"layout {0:016x}"


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


def with_something_else_in_the_place_of_a_map(pins: Pins, _maps: dict[str, BpfMap], _settings: Sections) -> str:
    (pins.folder / "map_control").unlink()
    link = pins.links()["lo"]
    libbpf.pin(link, str(pins.folder / "map_control"))
    os.close(link)
    return "map control is laid out otherwise"


def with_names_that_nobody_gives(pins: Pins, maps: dict[str, BpfMap], _settings: Sections) -> str:
    libbpf.pin(maps["ended"].fd, str(pins.folder / "link__ff"))
    libbpf.pin(maps["ended"].fd, str(pins.folder / "what"))
    (pins.folder / "map_folder").mkdir()
    (pins.folder / "map_totals").unlink()
    return "maps missing or unknown: totals"


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
        with_something_else_in_the_place_of_a_map,
        with_names_that_nobody_gives,
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
            assert new.keys() == {declared.name for declared in MAPS}
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


@pytest.fixture(scope="module")
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a relayd runs from that knows a verdict more."""
    if reason := unfit_compiler():
        pytest.skip(reason)
    return with_one_more_verdict(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("order", ["upgrade", "downgrade"])
def test_a_relay_of_another_declaration_is_replaced_and_games_go_on(
    order: str, tmp_path: Path, pins: Pins, other_home: Path
) -> None:
    """Its pinned maps and its state file alike, and whichever of the two comes first."""
    homes = [REPOSITORY, other_home] if order == "downgrade" else [other_home, REPOSITORY]
    session = new_session("another")
    sections = on_loopback(pins.folder.parents[1]) | {"relay": {"forwarder": "python"}}
    first = RelayProcess(tmp_path, [session], sections, home=homes[0])
    first.__enter__()
    with ExitStack() as stack, first.host(session) as host, first.player(session) as player:
        stack.callback(first.kill)
        play(host, player, OPENS_CONNECTION)
        eventually(lambda: both_served(first), "the kernel has both")
        first.kill()
        assert host.ping() == VALID, "it outlived the process"
        old_link = pins.links()["lo"]
        stack.callback(os.close, old_link)
        with RelayProcess(tmp_path, None, first.settings, home=homes[1]) as second:
            assert_replaced(second, "it has layout", old_link)
            (line,) = second.log_lines(event="the state of the relay before is not used: players bind again")
            assert "it has layout" in line["why"]
            assert "Traceback" not in second.stderr
            play(host, player, OPENS_CONNECTION)
            eventually(lambda: both_served(second), "the kernel has both")
            assert host.ping() == VALID
    pins.remove()


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
