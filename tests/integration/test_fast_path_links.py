"""The kernel forwarding between links of the relay's host, to peers on the link and to peers behind a router."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from relayd.core.meter import SILENT_SECONDS
from relayd.forwarding.kernel.attach import attach
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.integration.config import SessionKeys, new_session
from tests.integration.fast_path import bpf_file_system, by_kernel, own_network
from tests.integration.namespaces import Namespace
from tests.integration.peers import DATA, GOES_ON, OPENS_CONNECTION, VALID, Host, Peer, Player, talking
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually
from tests.scenarios.frames import Parsed, parse
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

_ETH_P_ALL = 0x0003
ROUNDS = 20
MANY = 300
"""More than a silent peer is sent in a moment."""
MARK = b"forwarded by the kernel"
AT_RELAY = {4: "10.88.{}.1", 6: "fd88:{}::1"}
AT_PEER = {4: "10.88.{}.2", 6: "fd88:{}::2"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])
FORWARDING = pytest.mark.parametrize("forwarding", [1, 0])


class Network:
    """The relay's network, which is this thread's own, and links from it to others."""

    def __init__(self, stack: ExitStack, pins: Path) -> None:
        self._stack = stack
        self._pins = pins
        self._links: list[str] = []
        self._addresses: list[str] = []
        # What XDP sends through a veth only arrives where the other end runs XDP too: one that knows no port.
        self._idle = KernelProgram.load(Sizes(1, 1))
        stack.callback(self._idle.close)

    def new(self) -> Namespace:
        return self._stack.enter_context(Namespace())

    def link(self, number: int, to: Namespace, *, takes_what_xdp_sends: bool = True) -> None:
        """An interface ``linkN`` here and ``upN`` there."""
        here, there = f"link{number}", f"up{number}"
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", str(to.id))
        for address in AT_RELAY.values():
            ip("address", "add", f"{address.format(number)}/{bits(address)}", "dev", here, *nodad(address))
        ip("link", "set", here, "up")
        for address in AT_PEER.values():
            to.ip("address", "add", f"{address.format(number)}/{bits(address)}", "dev", there, *nodad(address))
        to.ip("link", "set", there, "up")
        if takes_what_xdp_sends:
            self._stack.callback(os.close, to.run(attach, self._idle.fd, there).fd)
        if here not in self._links:
            self._links.append(here)
            self._addresses += [address.format(number) for address in AT_RELAY.values()]

    def forwarding(self, value: int) -> None:
        """Whether this host forwards packets, so that the program is told its routes."""
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")

    def relay(
        self,
        folder: Path,
        session: SessionKeys,
        *interfaces: str,
        bind: list[str] | None = None,
        mode: str = "require",
    ) -> RelayProcess:
        """With the fast path on these interfaces, or on all."""
        fast_path = {"interfaces": interfaces or self._links, "pin_directory": str(self._pins / "relayd")}
        sections: dict[str, dict[str, Any]] = {
            "relay": {"bind": bind or self._addresses},
            "fast_path": {"mode": mode, **fast_path},
        }
        return self._stack.enter_context(RelayProcess(folder, [session], sections, ("run", "--detach-on-exit")))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def bits(address: str) -> int:
    return 64 if ":" in address else 24


def nodad(address: str) -> list[str]:
    return ["nodad"] if ":" in address else []


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with own_network(), bpf_file_system(tmp_path / "bpf") as pins, ExitStack() as stack:
        yield Network(stack, pins)


class Tap:
    """A look at all frames that come in by an interface of this network."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.socket.bind((interface, _ETH_P_ALL))
        self.socket.setblocking(False)
        self.mac = bytes(self.socket.getsockname()[4])

    def heard(self, payload: bytes) -> list[Parsed]:
        """Those so far that end so."""
        found: list[Parsed] = []
        while True:
            try:
                frame, about = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if about[2] != socket.PACKET_OUTGOING and frame.endswith(payload):
                found.append(parse(frame))


def mac_of(interface: str) -> bytes:
    with closing(Tap(interface).socket) as sock:
        return bytes(sock.getsockname()[4])


class Pair:
    """A host and a player, until the kernel forwards between them both ways."""

    def __init__(self, relay: RelayProcess, host: Host, player: Player) -> None:
        self.host = host
        self.player = player
        self.relay = relay
        host.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        self._connection = host.hear()[0]
        eventually(self.by_kernel, "the kernel forwards both ways")

    def forwarded(self) -> float:
        return by_kernel(self.relay, "forwarded")

    def by_kernel(self) -> bool:
        before = self.forwarded()
        self.exchange(b"both ways")
        return self.forwarded() == before + 2

    def exchange(self, payload: bytes) -> None:
        self.player.say(GOES_ON + payload)
        assert self.host.hear() == (self._connection, GOES_ON + payload)
        self.host.say(self._connection, payload)
        assert self.player.hear() == payload


@FAMILIES
@FORWARDING
def test_from_link_to_link(network: Network, tmp_path: Path, family: int, forwarding: int) -> None:
    host_net, player_net = network.new(), network.new()
    network.link(1, host_net)
    network.link(2, player_net)
    network.forwarding(forwarding)
    session = new_session("links")
    relay = network.relay(tmp_path, session)
    with (
        host_net.run(relay.host, session, ip=AT_RELAY[family].format(1)) as host,
        player_net.run(relay.player, session, ip=AT_RELAY[family].format(2)) as player,
    ):
        pair = Pair(relay, host, player)
        taps = host_net.run(Tap, "up1"), player_net.run(Tap, "up2")
        before = pair.forwarded()
        for _ in range(ROUNDS):
            pair.exchange(MARK)
        assert pair.forwarded() == before + 2 * ROUNDS
        for number, (port, tap) in enumerate(zip(("server", "client"), taps, strict=True), start=1):
            heard = tap.heard(MARK)
            tap.socket.close()
            assert len(heard) == ROUNDS
            for one in heard:
                packet = one.packet
                assert one.checksum_right
                assert (packet.mac_to, packet.mac_from) == (tap.mac, mac_of(f"link{number}"))
                assert (packet.source, packet.source_port) == relay.address(port, AT_RELAY[family].format(number))
                assert packet.destination == AT_PEER[family].format(number)


@FAMILIES
def test_from_one_of_several_addresses(network: Network, tmp_path: Path, family: int) -> None:
    """Peers that are connected to it hear no other: not the sockets before, not the kernel, not the sockets again."""
    net = network.new()
    network.link(1, net)
    second = {4: "10.88.1.7", 6: "fd88:1::7"}[family]
    ip("address", "add", f"{second}/{bits(second)}", "dev", "link1", *nodad(second))
    session = new_session("links")
    relay = network.relay(tmp_path, session, bind=["0.0.0.0", "::"])
    with (
        net.run(relay.host, session, ip=second) as host,
        net.run(relay.player, session, ip=second) as player,
    ):
        pair = Pair(relay, host, player)
        assert (host.ping(), player.ping()) == (VALID, VALID)
        watched = f"/v1/sessions/{session.session_id}/watch"
        for method in ("POST", "DELETE"):
            assert relay.request(method, watched)[0] in (200, 204)
            pair.exchange(method.encode())
        eventually(pair.by_kernel, "the kernel forwards again")


@FAMILIES
@FORWARDING
def test_a_player_behind_a_router(network: Network, tmp_path: Path, family: int, forwarding: int) -> None:
    """Its datagrams come by one link, and the relay's route back is another: taken where routes may be asked."""
    host_net, router, player_net = network.new(), network.new(), network.new()
    network.link(1, host_net)
    network.link(2, router)
    network.link(3, router)
    network.forwarding(forwarding)
    route_through(router, player_net)
    for version, (net, at) in enumerate((("10.99.0.0/24", AT_PEER[4]), ("fd99::/64", AT_PEER[6]))):
        ip(f"-{4 + 2 * version}", "route", "add", net, "via", at.format(3))
    session = new_session("router")
    relay = network.relay(tmp_path, session)
    with (
        host_net.run(relay.host, session, ip=AT_RELAY[family].format(1)) as host,
        player_net.run(relay.player, session, ip=AT_RELAY[family].format(2)) as player,
    ):
        pair = Pair(relay, host, player)
        taps = {number: router.run(Tap, f"up{number}") for number in (2, 3)}
        before = pair.forwarded()
        for _ in range(ROUNDS):
            pair.exchange(MARK)
        assert pair.forwarded() == before + 2 * ROUNDS
        back = {number: len(tap.heard(MARK)) for number, tap in taps.items()}
        for tap in taps.values():
            tap.socket.close()
        assert back == ({2: 0, 3: ROUNDS} if forwarding else {2: ROUNDS, 3: 0})


def route_through(router: Namespace, player_net: Namespace) -> None:
    """A link between the two, and forwarding in the router whatever way a datagram comes."""
    router.ip("link", "add", "inner", "type", "veth", "peer", "name", "outer", "netns", str(player_net.id))
    for family, (near, far) in {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd99::1", "fd99::2")}.items():
        router.ip("address", "add", f"{near}/{bits(near)}", "dev", "inner", *nodad(near))
        player_net.ip("address", "add", f"{far}/{bits(far)}", "dev", "outer", *nodad(far))
        router.ip("link", "set", "inner", "up")
        player_net.ip("link", "set", "outer", "up")
        player_net.ip(f"-{family}", "route", "add", "default", "via", near)
    router.set("ipv4/ip_forward", 1)
    router.set("ipv6/conf/all/forwarding", 1)
    for name in ("all", "up2", "up3"):
        router.set(f"ipv4/conf/{name}/rp_filter", 0)


@FORWARDING
def test_a_player_behind_a_link_of_small_packets(network: Network, tmp_path: Path, forwarding: int) -> None:
    """No ICMP of the router's reaches the program: what is too long for the last link has to get through anyway."""
    host_net, router, player_net = network.new(), network.new(), network.new()
    network.link(1, host_net)
    network.link(2, router)
    network.link(3, router)
    network.forwarding(forwarding)
    route_through(router, player_net)
    router.ip("link", "set", "inner", "mtu", "1100")
    player_net.ip("link", "set", "outer", "mtu", "1100")
    ip("route", "add", "10.99.0.0/24", "via", AT_PEER[4].format(2))
    session = new_session("small")
    relay = network.relay(tmp_path, session)
    with (
        host_net.run(relay.host, session, ip=AT_RELAY[4].format(1)) as host,
        player_net.run(relay.player, session, ip=AT_RELAY[4].format(2)) as player,
    ):
        pair = Pair(relay, host, player)
        before = pair.forwarded()
        for number in range(ROUNDS):
            pair.exchange(number.to_bytes(4, "little") + bytes(1150))
        assert pair.forwarded() >= before + ROUNDS, "the host's, at least: the player's arrive in fragments"


def test_a_peer_that_only_the_sockets_hear_is_not_silent(network: Network, tmp_path: Path) -> None:
    """The host comes by an interface without the program, its player by one with it: each is heard by one engine."""
    host_net, player_net = network.new(), network.new()
    network.link(1, host_net)
    network.link(2, player_net)
    session = new_session("halves")
    relay = network.relay(tmp_path, session, "link2")
    with (
        host_net.run(relay.host, session, ip=AT_RELAY[4].format(1)) as host,
        player_net.run(relay.player, session, ip=AT_RELAY[4].format(2)) as player,
    ):
        assert (host.ping(), player.ping()) == (VALID, VALID)
        player.say(OPENS_CONNECTION)
        connection = host.hear()[0]
        end = time.monotonic() + SILENT_SECONDS + 3
        with talking(host, player):
            eventually(lambda: time.monotonic() > end, "either would be silent if nobody else heard it")
        host.ping_until(VALID)
        player.ping_until(VALID)
        for number in range(MANY):
            host.say(connection, number.to_bytes(2, "little"))
            assert data(player) == number.to_bytes(2, "little")
        for number in range(MANY):
            player.say(GOES_ON + number.to_bytes(2, "little"))
            assert data(host) == struct.pack("<i", connection) + GOES_ON + number.to_bytes(2, "little")
        drops = relay.get_json(f"/v1/sessions/{session.session_id}")["drops"]
        assert "rate_limited" not in drops


def data(peer: Peer) -> bytes:
    """The next DATA it hears, without its type; answers to PINGs are left out."""
    while (datagram := peer.receive())[:1] != DATA:
        pass
    return datagram[1:]
