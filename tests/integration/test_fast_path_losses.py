"""The kernel forwarding on interfaces that lose what it sends, that go and come back: the games go on."""

import struct
import time
from pathlib import Path

import pytest

from tests.integration.commands import relayd
from tests.integration.config import new_session
from tests.integration.fast_path import by_kernel, in_all
from tests.integration.peers import DATA, GOES_ON, OPENS_CONNECTION, VALID, Host, Peer, Player
from tests.integration.relay_process import RelayProcess
from tests.integration.test_fast_path_links import AT_RELAY, MARK, ROUNDS, Network, ip, network
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

__all__ = ["network"]

_BETWEEN_SECONDS = 0.01
FORWARDED_OR_ANSWERED = ("forwarded", "answered")


def fast_path(relay: RelayProcess, name: str) -> float:
    return relay.metrics()[f"relayd_fast_path_{name}",]


def connected(host: Host, player: Player) -> int:
    """Both bound. Returns the player's connection."""
    host.ping_until(VALID)
    player.say(OPENS_CONNECTION)
    return host.hear()[0]


def exchange(host: Host, player: Player, connection: int, number: int) -> None:
    payload = MARK + number.to_bytes(4, "little")
    player.say(GOES_ON + payload)
    until_heard(host, DATA + struct.pack("<i", connection) + GOES_ON + payload)
    host.say(connection, payload)
    until_heard(player, DATA + payload)


def until_heard(peer: Peer, datagram: bytes) -> None:
    """Before it there may be what was under way, and answers to PINGs."""
    while peer.receive() != datagram:
        pass


def said(relay: RelayProcess, *command: str) -> str:
    done = relayd(*command, "--config", str(relay.config_path))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("links", [1, 2], ids=["back by the link it came", "from link to link"])
def test_where_what_the_kernel_sends_is_lost_the_sockets_serve(network: Network, tmp_path: Path, links: int) -> None:
    """A veth whose far end runs no XDP takes nothing, and the program has counted it as forwarded by then."""
    nets = [network.new() for _ in range(links)]
    for number, net in enumerate(nets, start=1):
        network.link(number, net, takes_what_xdp_sends=False)
    session = new_session("loses")
    relay = network.relay(tmp_path, session)
    with (
        nets[0].run(relay.host, session, ip=AT_RELAY[4].format(1)) as host,
        nets[-1].run(relay.player, session, ip=AT_RELAY[4].format(links)) as player,
    ):
        connection = connected(host, player)

        def play(lost: bool) -> bool:
            """Both say something and PING. Returns whether interfaces have lost some, or the sockets serve."""
            player.say(GOES_ON)
            host.say(connection, GOES_ON)
            host.send_ping()
            player.send_ping()
            time.sleep(_BETWEEN_SECONDS)
            states = [relay.metrics()["relayd_fast_path_interface", f"link{one + 1}", "loses"] for one in range(links)]
            return by_kernel(relay, "forwarded") > 0 if lost else all(states)

        eventually(lambda: play(lost=True), "the kernel forwards, and what it does is lost")
        began = time.monotonic()
        eventually(lambda: play(lost=False), "the sockets serve")
        seconds = time.monotonic() - began
        print(f"{seconds:.2f} s from the first lost datagram to the sockets serving")  # noqa: T201
        before = [by_kernel(relay, verdict) for verdict in FORWARDED_OR_ANSWERED]
        for number in range(ROUNDS):
            exchange(host, player, connection, number)
        assert {*host.ping_until(VALID), *player.ping_until(VALID)} == {VALID}
        assert [by_kernel(relay, verdict) for verdict in FORWARDED_OR_ANSWERED] == before
        lost = fast_path(relay, "lost_total")
        assert 0 < lost <= sum(before) < sum(in_all(relay, verdict) for verdict in FORWARDED_OR_ANSWERED)
        assert (relay.metrics()["relayd_sessions",], fast_path(relay, "up")) == (1, 0)
        loses = "link1 lost"
        assert f"warning  {loses}" in said(relay, "check")
        assert f"fast path: {loses}" in relay.get("/readyz")[1]
        assert loses in said(relay, "top", "--once")
        assert loses in said(relay, "explain", session.session_id)
        assert "the sockets serve" in said(relay, "fast-path", "status")
        assert (
            "its far end runs an XDP program too" in relay.log_lines(interface="link1", level="warning")[0]["way_out"]
        )


def test_an_interface_that_goes_and_comes_back_is_taken_up_again(network: Network, tmp_path: Path) -> None:
    """Made anew, and renamed to and fro: the session and its connection go on."""
    net = network.new()
    network.link(1, net)
    session = new_session("anew")
    relay = network.relay(tmp_path, session)
    with (
        net.run(relay.host, session, ip=AT_RELAY[4].format(1)) as host,
        net.run(relay.player, session, ip=AT_RELAY[4].format(1)) as player,
    ):
        connection = connected(host, player)

        def plays_through_the_kernel() -> bool:
            before = by_kernel(relay, "forwarded")
            for number in range(ROUNDS):
                exchange(host, player, connection, number)
            return by_kernel(relay, "forwarded") == before + 2 * ROUNDS

        eventually(plays_through_the_kernel, "the kernel forwards")
        ip("link", "delete", "link1")
        eventually(lambda: fast_path(relay, "up") == 0, "it is seen to be gone")
        network.link(1, net)
        eventually(lambda: fast_path(relay, "up") == 1, "it is taken up again")
        eventually(plays_through_the_kernel, "the kernel forwards again")
        ip("link", "set", "link1", "name", "other")
        eventually(lambda: fast_path(relay, "up") == 0, "it is another one now")
        exchange(host, player, connection, 0)
        ip("link", "set", "other", "name", "link1")
        eventually(lambda: fast_path(relay, "up") == 1, "it is taken up again")
        eventually(plays_through_the_kernel, "the kernel forwards again")
        assert fast_path(relay, "lost_total") == 0
        assert [line["event"] for line in relay.log_lines(interface="link1")] == [
            "fast path is on",
            *["an interface of the fast path is gone; it is taken up again when it comes", "fast path is on"] * 2,
        ]


def test_an_interface_that_comes_later(network: Network, tmp_path: Path) -> None:
    """With "auto" the relay starts without it, and says so; "require" is about the start."""
    net = network.new()
    network.link(1, net)
    session = new_session("later")
    relay = network.relay(tmp_path, session, "link1", "later0", mode="auto")
    assert relay.metrics()["relayd_fast_path_interface", "later0", "away"] == 1
    assert "no interface later0" in relay.get("/readyz")[1]
    ip("link", "add", "later0", "type", "veth", "peer", "name", "end0")
    eventually(lambda: fast_path(relay, "up") == 1, "it is taken up")
    assert "interface   later0: on, native" in said(relay, "fast-path", "status")
