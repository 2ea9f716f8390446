"""Who may hear whom: sessions apart, address families together, answers from the port that was asked."""

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench.ports import free_ports
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.forwarding.sockets import open_sockets
from relayd.settings import RelaySettings
from relayd.supervision.kept_sockets import hand_over
from relayd.supervision.probes import ProbedEngine, Probes
from relayd.supervision.service_manager import ServiceManager
from tests.integration.commands import relayd
from tests.integration.config import SessionKeys, new_session, new_sessions, with_forwarder
from tests.integration.conftest import StartRelay
from tests.integration.fast_path import own_network
from tests.integration.peers import OPENS_CONNECTION, VALID, Player
from tests.integration.relay_process import RelayProcess, counted, told
from tests.integration.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("forwarder")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, forwarder: str) -> Iterator[RelayProcess]:
    """One relay on both families; each test adds sessions of its own."""
    overrides = with_forwarder(forwarder, {"relay": {"bind": ["127.0.0.1", "::1"]}})
    with RelayProcess(tmp_path_factory.mktemp("relay"), [], overrides) as process:
        yield process


@pytest.mark.parametrize("shared", ["all user tokens", "one user token"])
def test_sessions_that_share_user_tokens_never_hear_each_other(relay: RelayProcess, shared: str) -> None:
    red, blue = new_sessions(f"red {shared}", f"blue {shared}")
    users = red.users if shared == "all user tokens" else (*blue.users[:1], *red.users[1:2], *blue.users[2:])
    blue = blue._replace(users=users)
    relay.add_sessions(red, blue)
    with (
        relay.host(red) as red_host,
        relay.host(blue) as blue_host,
        relay.player(red) as red_player,
        relay.player(blue) as blue_player,
    ):
        assert {peer.ping() for peer in (red_host, blue_host)} == {VALID}
        ids = {}
        for name, host, player in (("red", red_host, red_player), ("blue", blue_host, blue_player)):
            player.say(OPENS_CONNECTION + name.encode())
            ids[name], heard = host.hear()
            assert heard == OPENS_CONNECTION + name.encode()

        before = relay.counts()
        # Each host speaks to the other's player, by the very id the other host knows it by, and then to its own.
        crossed = [red_host.say(ids["blue"], b"astray"), blue_host.say(ids["red"], b"astray")]
        kept = [red_host.say(ids["red"], b"home"), blue_host.say(ids["blue"], b"home")]
        assert (red_player.hear(), blue_player.hear()) == (b"home", b"home")
        relay.assert_counted(
            before, counted("server", "unknown_connection", *crossed), counted("server", "forwarded", *kept)
        )
        for peer in (red_host, blue_host, red_player, blue_player):
            assert peer.received_by_now() == []


def test_one_socket_that_plays_in_two_sessions(relay: RelayProcess) -> None:
    """Same user, same address, same port: only the session tells them apart."""
    red, blue = new_sessions("red twice", "blue twice")
    blue = blue._replace(users=(blue.host, *red.players))
    relay.add_sessions(red, blue)
    with relay.host(red) as red_host, relay.host(blue) as blue_host, relay.player(red) as both:
        assert {red_host.ping(), blue_host.ping(), both.ping()} == {VALID}
        as_blue = Player(relay.address("client"), blue.players[0], blue.token)
        as_blue.close()
        both.send(as_blue.data(b"to blue"))
        both.say(b"to red")
        assert red_host.hear()[1] == b"to red"
        assert blue_host.hear()[1] == b"to blue"
        assert red_host.received_by_now() + blue_host.received_by_now() == []


def test_a_token_of_another_session_is_not_good_here(relay: RelayProcess) -> None:
    red, blue = new_sessions("red", "blue")
    relay.add_sessions(red, blue)
    with relay.host(blue) as host, Player(relay.address("client"), red.players[0], blue.token) as intruder:
        assert host.ping() == VALID
        before = relay.counts()
        refused = intruder.say(OPENS_CONNECTION)
        intruder.receive()
        relay.assert_counted(before, counted("client", "unknown_pair", refused), told("client", "invalid"))
        assert host.received_by_now() == []


@pytest.mark.parametrize(("host_ip", "player_ip"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "::1")])
def test_ipv4_and_ipv6_play_together(relay: RelayProcess, host_ip: str, player_ip: str) -> None:
    session = new_session(f"{host_ip} {player_ip}")
    relay.add_sessions(session)
    _play(relay, session, host_ip, player_ip)


def test_the_default_addresses_take_both_families(start_relay: StartRelay) -> None:
    session = new_session("everywhere")
    relay = start_relay([session], {"relay": {"bind": ["0.0.0.0", "::"]}})
    _play(relay, session, "::1", "127.0.0.1")


def _play(relay: RelayProcess, session: SessionKeys, host_ip: str, player_ip: str) -> None:
    with relay.host(session, ip=host_ip) as host, relay.player(session, ip=player_ip) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        player.say(OPENS_CONNECTION)
        connection_id, heard = host.hear()
        assert heard == OPENS_CONNECTION
        host.say(connection_id, b"welcome")
        assert player.hear() == b"welcome"


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_all_that_is_sent_comes_from_the_port_that_was_contacted(relay: RelayProcess, ip: str) -> None:
    """Seen by sockets that take datagrams from anybody."""
    session = new_session(f"source {ip}")
    relay.add_sessions(session)
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    # Made for their headers: these two never send.
    with (
        relay.host(session, ip=ip) as host,
        relay.player(session, ip=ip) as player,
        socket.socket(family, socket.SOCK_DGRAM) as at_host,
        socket.socket(family, socket.SOCK_DGRAM) as at_player,
    ):
        for sock in (at_host, at_player):
            sock.bind((ip, 0))
            sock.settimeout(PATIENCE_SECONDS)
        at_host.sendto(host.header + b"\x01", relay.address("server", ip))
        assert _from(at_host) == (VALID, relay.address("server", ip))
        at_player.sendto(player.data(OPENS_CONNECTION), relay.address("client", ip))
        to_host, source = _from(at_host)
        assert source == relay.address("server", ip)
        at_host.sendto(host.data(int.from_bytes(to_host[1:5], "little"), b"hi"), relay.address("server", ip))
        assert _from(at_player) == (b"\x02hi", relay.address("client", ip))
        at_player.sendto(bytes(8) + b"\x01", relay.address("client", ip))
        assert _from(at_player)[1] == relay.address("client", ip)


def _from(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    datagram, source = sock.recvfrom(2048)
    return datagram, source[:2]


@pytest.mark.parametrize("dscp", [0, 46])
def test_dscp_marks_all_that_is_sent(start_relay: StartRelay, dscp: int) -> None:
    session = new_session("marked")
    relay = start_relay([session], {"relay": {"bind": ["127.0.0.1", "::1"], "dscp": dscp}})
    with relay.host(session) as host, relay.player(session, ip="::1") as player:
        host.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        player.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        host.send_ping()
        assert _received_mark(host.socket) == (VALID, dscp)
        player.say(b"hello")
        assert _received_mark(host.socket)[1] == dscp
        player.send_ping()
        assert _received_mark(player.socket) == (VALID, dscp)


def _received_mark(sock: socket.socket) -> tuple[bytes, int]:
    """A datagram and its DSCP: the upper six bits of an octet that IPv4 gives as one byte, IPv6 as an int."""
    sock.settimeout(PATIENCE_SECONDS)
    datagram, extras, _, _ = sock.recvmsg(2048, 64)
    ((_, _, octet),) = extras
    return datagram, int.from_bytes(octet, "little") >> 2


@pytest.fixture
def index_of_lo() -> Iterator[int]:
    """Of a network of the test's own, in which lo has fe80::9."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a network of its own")
    with own_network():
        subprocess.run(["ip", "address", "add", "fe80::9/64", "dev", "lo", "nodad"], check=True)
        (index,) = (index for index, name in socket.if_nameindex() if name == "lo")
        # The kernel adds the route to a new address a moment after the address (addrconf_dad_work).
        eventually(lambda: _hears_itself(("fe80::9", 0, 0, index)), "the new address is reached")
        yield index


def _hears_itself(address: tuple[str, int, int, int]) -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(address)
            sock.connect(sock.getsockname())
            sock.send(b"!")
        except OSError:
            return False
        return bool(select.select([sock], [], [], 0.1)[0])


def test_a_link_local_address_is_served_on_its_interface(tmp_path: Path, forwarder: str, index_of_lo: int) -> None:
    session = new_session("link")
    overrides = with_forwarder(forwarder, {"relay": {"bind": ["127.0.0.1", "fe80::9%lo"]}})
    with RelayProcess(tmp_path, [session], overrides) as relay, relay.host(session) as host:
        assert host.ping() == VALID
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.connect(("fe80::9", relay.settings["relay"]["client_port"], 0, index_of_lo))
            with relay.player(session) as player:
                sock.send(player.data(OPENS_CONNECTION))
            connection_id, heard = host.hear()
            assert heard == OPENS_CONNECTION
            host.say(connection_id, b"to the link")
            assert sock.recv(2048) == b"\x02to the link"
        checked = relayd("check", "--config", str(relay.config_path))
        assert checked.returncode == 0, checked


def test_sockets_on_a_link_are_probed_there_and_kept_under_its_name(index_of_lo: int) -> None:
    server_port, client_port = free_ports(2)
    settings = RelaySettings(bind=["fe80::9%lo"], server_port=server_port, client_port=client_port)
    sockets, _ = open_sockets(settings)
    with closing(Probes(ProbedEngine(Table(Limits(), lambda: 1)), sockets)) as probes:
        probes.unread()
        for one in sockets:
            assert select.select([one.socket], [], [], PATIENCE_SECONDS)[0], "a probe has come"
    told: list[tuple[str, ...]] = []
    manager = SimpleNamespace(tell=lambda *lines, fds: told.append(lines))
    hand_over(cast(ServiceManager, manager), sockets)
    assert [lines[1] for lines in told] == [
        f"FDNAME=udp-fe80__9%{index_of_lo}-{port}" for port in (server_port, client_port)
    ]
    for one in sockets:
        one.socket.close()
