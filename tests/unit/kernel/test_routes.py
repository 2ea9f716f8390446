"""By which way a datagram leaves: the kernel's routes and neighbours, or where those say nothing, the way it came."""

import socket
from collections.abc import Iterator

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.layout import InterfaceMode
from tests.integration.waiting import eventually
from tests.scenarios.frames import PEER_MAC, RELAY_MAC
from tests.scenarios.rig import XDP_PASS, XDP_REDIRECT, XDP_TX, Rig, Run
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

SESSION = 0xBEEF
HOST = {4: "203.0.113.50", 6: "2001:db8:1::50"}
PLAYER = {4: "198.51.100.60", 6: "2001:db8:2::60"}
NETS = {4: ("203.0.113.0/24", "198.51.100.0/24"), 6: ("2001:db8:1::/64", "2001:db8:2::/64")}
GATEWAY = {4: "10.80.{}.254", 6: "fd80:{}::fe"}
GATEWAY_MAC = "02:cc:00:00:00:0{}"
NEAR, FAR = 1, 2
FAMILIES = pytest.mark.parametrize("family", [4, 6])


class Routes:
    """A relay's network with two links, `link1` and `link2`, and a gateway on each."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.index: dict[int, int] = {}
        for number in (NEAR, FAR):
            rig.network.ip("link", "add", f"link{number}", "type", "veth", "peer", "name", f"end{number}")
            rig.network.ip("address", "add", f"10.80.{number}.1/24", "dev", f"link{number}")
            rig.network.ip("address", "add", f"fd80:{number}::1/64", "dev", f"link{number}", "nodad")
            for name in (f"link{number}", f"end{number}"):
                rig.network.ip("link", "set", name, "up")
            self.index[number] = rig.network.run(socket.if_nametoindex, f"link{number}")
            self.attached(number, InterfaceMode.NATIVE)

    def attached(self, number: int, mode: InterfaceMode) -> None:
        """Has the program take it for attached there."""
        self.rig.program.map("interfaces").put(self.index[number], int(mode).to_bytes(4, "little"))

    def flags(self, flags: layout.ControlFlag) -> None:
        """Sets the program's switches."""
        control = self.rig.program.map("control")
        entry = layout.Control.from_buffer_copy(control.lookup(bytes(4)) or b"")
        entry.flags = int(flags)
        control.put(0, bytes(entry))

    def forwarded(self) -> int:
        """By the program, of the host's."""
        totals = self.rig.fast_path.totals
        totals.absorb()
        return totals.by_kernel(Port.SERVER, Verdict.FORWARDED)

    def forwarding(self, family: int, value: int) -> None:
        for number in (NEAR, FAR):
            self.rig.network.set(f"ipv{family}/conf/link{number}/forwarding", value)

    def route(self, family: int, *towards_player: str) -> None:
        """The host's network is behind the near gateway; the player's is where it is said to be."""
        for net, words in zip(NETS[family], (self.via(family, NEAR), towards_player), strict=True):
            kind = words[:1] if words[0] in ("unreachable", "blackhole", "prohibit") else ()
            self.rig.network.ip(f"-{family}", "route", "replace", *kind, net, *words[len(kind) :])

    def via(self, family: int, number: int) -> tuple[str, ...]:
        return "via", GATEWAY[family].format(number), "dev", f"link{number}"

    def neighbour(self, family: int, number: int) -> None:
        self.rig.network.ip(
            *("neigh", "replace", GATEWAY[family].format(number), "lladdr", GATEWAY_MAC.format(number)),
            *("dev", f"link{number}", "nud", "permanent"),
        )

    def mac(self, number: int) -> bytes:
        return self.rig.network.run(_mac_of, f"link{number}")

    def bind(self, family: int) -> None:
        """Both come in by the near link, the host from its gateway."""
        self.rig.authorize(("s", SESSION, (1, 2)))
        for _ in range(2):
            self.rig.handle(self.rig.frame(HOST[family], 7, Port.SERVER, encode_ping(1, SESSION)), self.index[NEAR])
            player = encode_player_data(2, SESSION, b"\x01" + bytes(9))
            self.rig.handle(self.rig.frame(PLAYER[family], 8, Port.CLIENT, player), self.index[NEAR])

    def to_player(self, family: int) -> Run:
        connection = next(iter(self.rig.table.by_token[SESSION].players))
        data = encode_host_data(1, SESSION, connection, b"payload")
        return self.rig.run(self.rig.frame(HOST[family], 7, Port.SERVER, data), self.index[NEAR])


def _mac_of(interface: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        return bytes(sock.getsockname()[4])


@pytest.fixture
def routes() -> Iterator[Routes]:
    with Rig() as rig:
        yield Routes(rig)


def macs(run: Run) -> tuple[bytes, bytes]:
    packet = run.parsed.packet
    return packet.mac_to, packet.mac_from


def gateway_mac(number: int) -> bytes:
    return bytes.fromhex(GATEWAY_MAC.format(number).replace(":", ""))


@FAMILIES
@pytest.mark.parametrize(("number", "exit_"), [(NEAR, XDP_TX), (FAR, XDP_REDIRECT)])
def test_where_packets_are_forwarded_the_kernels_routes_are_followed(
    routes: Routes, family: int, number: int, exit_: int
) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, number))
    routes.neighbour(family, NEAR)
    routes.neighbour(family, FAR)
    routes.bind(family)
    run = routes.to_player(family)
    assert run.exit == exit_
    assert macs(run) == (gateway_mac(number), routes.mac(number))
    assert run.parsed.packet.destination == PLAYER[family]
    assert run.parsed.checksum_right


@FAMILIES
def test_where_packets_are_not_forwarded_a_peer_is_answered_by_the_way_it_came(routes: Routes, family: int) -> None:
    routes.forwarding(family, 0)
    routes.route(family, *routes.via(family, FAR))
    routes.neighbour(family, FAR)
    routes.bind(family)
    run = routes.to_player(family)
    assert run.exit == XDP_TX
    assert macs(run) == (PEER_MAC, RELAY_MAC)


@FAMILIES
def test_without_a_neighbour_the_sockets_have_to_find_one(routes: Routes, family: int) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, FAR))
    routes.neighbour(family, NEAR)
    routes.bind(family)
    assert routes.to_player(family).exit == XDP_PASS
    routes.neighbour(family, FAR)
    assert routes.to_player(family).exit == XDP_REDIRECT


@FAMILIES
@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_where_there_is_no_route_the_sockets_are_told(routes: Routes, family: int, kind: str) -> None:
    routes.forwarding(family, 1)
    routes.route(family, kind)
    routes.neighbour(family, NEAR)
    routes.bind(family)
    assert routes.to_player(family).exit == XDP_PASS


@FAMILIES
def test_a_link_that_the_program_is_not_on_is_left_to_the_sockets(routes: Routes, family: int) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, FAR))
    routes.neighbour(family, NEAR)
    routes.neighbour(family, FAR)
    routes.rig.program.map("interfaces").delete(routes.index[FAR].to_bytes(4, "little"))
    routes.bind(family)
    assert routes.to_player(family).exit == XDP_PASS
    routes.attached(FAR, InterfaceMode.GENERIC)
    assert routes.to_player(family).exit == XDP_PASS, "from a driver to none"
    routes.attached(NEAR, InterfaceMode.GENERIC)
    assert routes.to_player(family).exit == XDP_REDIRECT
    routes.attached(FAR, InterfaceMode.NATIVE)
    assert routes.to_player(family).exit == XDP_PASS, "and back"


@FAMILIES
@pytest.mark.parametrize("number", [NEAR, FAR])
def test_what_would_leave_by_a_link_that_loses_it_is_left_to_the_sockets(
    routes: Routes, family: int, number: int
) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, number))
    routes.neighbour(family, NEAR)
    routes.neighbour(family, FAR)
    routes.bind(family)
    left = routes.to_player(family).exit
    assert left in (XDP_TX, XDP_REDIRECT)
    routes.rig.program.map("interfaces").delete(routes.index[number].to_bytes(4, "little"))
    routes.flags(layout.ControlFlag.SOME_LEFT_TO_SOCKETS)
    before = routes.forwarded()
    assert routes.to_player(family).exit == XDP_PASS
    ping = routes.rig.frame(HOST[family], 7, Port.SERVER, encode_ping(1, SESSION))
    assert routes.rig.run(ping, routes.index[NEAR]).exit == (XDP_PASS if number == NEAR else XDP_TX)
    assert routes.forwarded() == before, "what is left to others is not counted"
    routes.attached(number, InterfaceMode.NATIVE)
    assert routes.to_player(family).exit == left


def test_what_would_not_fit_whole_is_left_to_the_sockets(routes: Routes) -> None:
    """No IPv6 link has so small an MTU."""
    routes.forwarding(4, 1)
    routes.route(4, *routes.via(4, FAR), "mtu", "lock", "1259")
    routes.neighbour(4, NEAR)
    routes.neighbour(4, FAR)
    routes.bind(4)
    assert routes.to_player(4).exit == XDP_PASS


@FAMILIES
def test_a_new_route_is_followed_within_about_a_second(routes: Routes, family: int) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, NEAR))
    routes.neighbour(family, NEAR)
    routes.neighbour(family, FAR)
    routes.bind(family)
    assert routes.to_player(family).exit == XDP_TX
    routes.route(family, *routes.via(family, FAR))
    eventually(lambda: routes.to_player(family).exit == XDP_REDIRECT, "the new route is followed")


@FAMILIES
def test_a_way_that_a_processor_ahead_noted_is_looked_up_anew(routes: Routes, family: int) -> None:
    routes.forwarding(family, 1)
    routes.route(family, *routes.via(family, NEAR))
    routes.neighbour(family, NEAR)
    routes.bind(family)
    player = next(iter(routes.rig.table.by_token[SESSION].players.values())).client_binding
    assert player is not None
    slot, states = routes.rig.fast_path.mirror.slot_of[player], routes.rig.program.map("states")
    with states.share() as memory:
        at = slot * states.value_bytes + layout.State.route.offset + layout.NextHop.epoch.offset
        memory[at : at + 4] = b"\xff" * 4
    assert routes.to_player(family).exit == XDP_TX
