"""A relay whose host has several addresses, some of which come and go. In networks of their own."""

import select
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.integration.cable import with_networks
from tests.integration.commands import relayd
from tests.integration.config import SessionKeys, new_session, with_forwarder
from tests.integration.namespaces import Namespace, connect
from tests.integration.peers import GOES_ON, INVALID, OPENS_CONNECTION, VALID, Host, Peer, Player
from tests.integration.relay_process import RelayProcess, counted
from tests.integration.waiting import eventually

FIRST, SECOND, LATER = "10.9.0.1", "10.9.0.7", "10.9.0.9"
FIRST_6, SECOND_6, LATER_6 = "fd09::1", "fd09::7", "fd09::9"
EVERYWHERE = ["0.0.0.0", "::"]


class World:
    """A relay in a network with several addresses, and its peers' network at the other end of a cable."""

    def __init__(self, folder: Path, forwarder: str, stack: ExitStack, bind: list[str], ready: bool = True) -> None:
        self.session: SessionKeys = new_session("addresses", players=8)
        self.here, self.there = stack.enter_context(Namespace()), stack.enter_context(Namespace())
        self._stack = stack
        connect(self.here, FIRST, self.there, "10.9.0.2")
        self.there.ip("address", "add", "fd09::2/64", "dev", "cable", "nodad")
        for address in (FIRST_6, SECOND_6, SECOND):
            self.add(address)
        overrides = with_forwarder(forwarder, {"relay": {"bind": bind}})
        self.relay = RelayProcess(folder, [self.session], overrides, ready=ready)
        self.here.run(self.relay.__enter__)
        stack.push(lambda *error: self.here.run(self.relay.__exit__, *error))

    def add(self, address: str) -> None:
        self.here.ip("address", "add", *_with_prefix(address), "dev", "cable")
        # The kernel adds the route to a new address a moment after the address (addrconf_dad_work): before that, a
        # neighbour who asks for it hears nothing.
        eventually(lambda: self.here.run(_hears_itself, address), "the new address is reached")

    def remove(self, address: str) -> None:
        self.here.ip("address", "delete", *_with_prefix(address)[:1], "dev", "cable")

    def host(self, ip: str) -> Host:
        return self._stack.enter_context(self.there.run(self.relay.host, self.session, ip=ip))

    def player(self, number: int, ip: str) -> Player:
        return self._stack.enter_context(self.there.run(self.relay.player, self.session, number, ip=ip))

    def stranger(self, ip: str) -> Peer:
        address = self.relay.address("client", ip)
        return self._stack.enter_context(self.there.run(Peer, address, 1, self.session.token))

    def anywhere(self) -> socket.socket:
        """A peer's socket that hears the relay whichever of its addresses it speaks from."""
        sock: Any = self.there.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(90)
        return self._stack.enter_context(sock)  # type: ignore[no-any-return]


def _hears_itself(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
            sock.connect(sock.getsockname())
            sock.send(b"!")
        except OSError:
            return False
        return bool(select.select([sock], [], [], 0.1)[0])


def _with_prefix(address: str) -> list[str]:
    return [f"{address}/64", "nodad"] if ":" in address else [f"{address}/24"]


@with_networks
def test_whoever_is_asked_answers(folder: Path, forwarder: str, stack: ExitStack) -> None:
    """Every peer is connected to one address, and hears no other: by whichever the host came, PINGs, DATA, refusals."""
    world = World(folder, forwarder, stack, EVERYWHERE)
    world.add(LATER)
    world.add(LATER_6)
    host = world.host(SECOND)
    assert host.ping() == VALID
    for number, ip in enumerate((FIRST, SECOND, LATER, FIRST_6, SECOND_6, LATER_6)):
        player = world.player(number, ip)
        assert player.ping() == VALID, ip
        player.say(OPENS_CONNECTION)
        connection_id, heard = host.hear()
        assert heard == OPENS_CONNECTION
        # By the forwarding thread now, if there is one: many, so that some leave merged.
        sent = [b"%d to %s" % (count, ip.encode()) for count in range(20)]
        for payload in sent:
            host.say(connection_id, payload)
        assert [player.hear() for _ in sent] == sent, ip
        assert player.ping() == VALID, ip
        player.say(GOES_ON)
        assert host.hear() == (connection_id, GOES_ON)
        assert world.stranger(ip).ping() == INVALID, ip


@with_networks
def test_a_peer_that_asks_elsewhere_is_answered_from_there(folder: Path, forwarder: str, stack: ExitStack) -> None:
    """From the same address and port of its own: no move, and what is sent to it follows all the same."""
    world = World(folder, forwarder, stack, EVERYWHERE)
    host, known_as = world.host(FIRST), world.player(0, FIRST)
    assert host.ping() == VALID
    peer = world.anywhere()
    ping, data = known_as.header + b"\x01", known_as.data(OPENS_CONNECTION)
    at = {ip: world.relay.address("client", ip) for ip in (FIRST, SECOND)}
    peer.sendto(data, at[SECOND])
    connection_id, _ = host.hear()
    for ip in (SECOND, FIRST, SECOND):
        peer.sendto(ping, at[ip])
        assert peer.recvfrom(2048) == (VALID, at[ip])
        host.say(connection_id, b"to whom it may concern")
        assert peer.recvfrom(2048) == (b"\x02to whom it may concern", at[ip])


@with_networks
def test_what_an_address_that_has_left_was_asked_is_sent_from_another(
    folder: Path, forwarder: str, stack: ExitStack
) -> None:
    """As a DHCP server does it: the old address goes, another one comes, and the player follows."""
    world = World(folder, forwarder, stack, EVERYWHERE)
    host = world.host(FIRST)
    assert host.ping() == VALID
    player = world.player(0, SECOND)
    peer = world.anywhere()
    peer.sendto(player.data(OPENS_CONNECTION), world.relay.address("client", SECOND))
    connection_id, _ = host.hear()
    before = world.here.run(world.relay.counts)
    world.remove(SECOND)
    world.add(LATER)
    sent = [b"number %d" % number for number in range(20)]
    datagrams = [host.say(connection_id, payload) for payload in sent]
    assert [peer.recvfrom(2048) for _ in sent] == [
        (b"\x02" + payload, world.relay.address("client", FIRST)) for payload in sent
    ]
    world.here.run(world.relay.assert_counted, before, counted("server", "forwarded", *datagrams))
    peer.sendto(player.header + b"\x01", world.relay.address("client", LATER))
    assert peer.recvfrom(2048) == (VALID, world.relay.address("client", LATER))
    host.say(connection_id, b"there")
    assert peer.recvfrom(2048) == (b"\x02there", world.relay.address("client", LATER))


@with_networks
def test_named_addresses_come_and_go(folder: Path, forwarder: str, stack: ExitStack) -> None:
    """Not there at boot, tentative, taken away as by DHCP, and back: bound all the same, and never called ready."""
    world = World(folder, forwarder, stack, [LATER, LATER_6], ready=False)
    relay, here = world.relay, world.here

    def answers(path: str = "/readyz") -> tuple[int, str]:
        return here.run(relay.get, path)

    def up(address: str) -> float:
        return here.run(relay.metrics)["relayd_bind_address_up", address]

    eventually(lambda: answers() == (503, f"this host has no address of relay.bind: {LATER}, {LATER_6}\n"), "deaf")
    checked = here.run(relayd, "check", "--config", str(relay.config_path))
    assert (checked.returncode, LATER in checked.stderr) == (69, True), checked
    world.add(LATER)
    eventually(lambda: answers() == (200, f"ready\nrelay.bind: this host does not have {LATER_6}\n"), "half of it")
    assert (up(LATER), up(LATER_6)) == (1, 0)
    host, player = world.host(LATER), world.player(0, LATER)
    assert (host.ping(), player.ping()) == (VALID, VALID)
    checked = here.run(relayd, "check", "--config", str(relay.config_path))
    assert checked.returncode == 0, checked
    assert f"warning  relay.bind: {LATER_6}: this host has no such address" in checked.stdout

    world.here.ip("address", "add", f"{LATER_6}/64", "dev", "cable")  # tentative at first
    eventually(lambda: answers() == (200, "ready\n"), "both are there")
    world.remove(LATER)
    eventually(lambda: answers()[1] == f"ready\nrelay.bind: this host does not have {LATER}\n", "one is away")
    assert (up(LATER), up(LATER_6)) == (0, 1)
    assert world.player(1, LATER_6).ping() == VALID
    world.add(LATER)
    eventually(lambda: answers() == (200, "ready\n"), "it is back")
    assert player.ping() == VALID
    eventually(lambda: len(relay.log_lines(address=LATER)) >= 4, "all of it is in the log")
    said = [line["event"] for line in relay.log_lines(address=LATER)]
    away, again = "this host does not have an address of relay.bind: nobody reaches it", "this host has an address"
    assert [event.startswith((away, again)) for event in said] == [True] * 4
