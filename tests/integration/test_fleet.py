"""Two relays of one fleet, each other's host and player by somebody's invention: neither takes anything from the other.

Whoever has sessions on both, and so tokens, binds each relay as host and player of a session at the other one. What a
host sends its player is then what the next host sends its own: one datagram with as many headers inside of each other
as fit is forwarded that many times.
"""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.config import Sections
from tests.integration.conftest import StartRelay
from tests.integration.control_plane.process import FakeRelay, Server
from tests.integration.invented import needs_invented_sources, send_from
from tests.integration.peers import DATA, OPENS_CONNECTION, PING, VALID, Address, Host, Player, talking
from tests.integration.relay_process import RelayProcess, counted
from tests.integration.waiting import eventually

USERS = 1000
"""In each session, so that one of them has a token that begins as what a relay sends its players."""
LEVELS = 99
"""Headers in one datagram: as many as fit."""
DATAGRAMS = 5


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "control-plane"
    directory.mkdir()
    server = Server(directory)
    server.start()
    yield server
    server.close()


class Side(NamedTuple):
    """A relay, and a session there with a host that has been heard and a player that has talked to it."""

    relay: RelayProcess
    session: int
    host: int
    player: int
    connection_id: int

    def header(self, user: int) -> bytes:
        return struct.pack("<II", user, self.session)

    def from_host(self) -> bytes:
        """The header of DATA from the host to the player."""
        return self.header(self.host) + DATA + struct.pack("<i", self.connection_id)


def following(control_plane: Server, city: str) -> Sections:
    return {
        "relay": {"id": f"relay-{city}", "public_ip": "127.0.0.1"},
        "source": {
            "kind": "control_plane",
            "url": control_plane.url,
            "token_file": str(control_plane.directory / "key"),
            "poll_interval": 0.2,
        },
        "limits": {"rebind_after": 0.0},
        "relay.attributes": {"city": city},
    }


def session_of(control_plane: Server, city: str, users: int) -> dict[str, Any]:
    """A session on that relay, which has taken it."""
    where = [{"field": "city", "values": [city], "filter_type": "any"}]
    made = control_plane.create(*["127.0.0.1"] * users, filters=where)
    return eventually(lambda: found if (found := control_plane.get(made))["ready"] else {}, "the session is ready")


def tokens_of(session: dict[str, Any]) -> list[int]:
    return [user["authorization_token"] for user in session["session_users"]]


def usable_host(control_plane: Server, city: str) -> tuple[dict[str, Any], int]:
    """A session, and a user in it whose token begins as DATA for a player does."""
    while True:
        session = session_of(control_plane, city, USERS)
        found = [token for token in tokens_of(session) if token & 0xFF == DATA[0]]
        if found:
            return session, found[0]


def side(control_plane: Server, relay: RelayProcess, city: str) -> Side:
    session, host_token = usable_host(control_plane, city)
    player_token = next(token for token in tokens_of(session) if token != host_token)
    token = session["authorization_token"]
    host = Host(relay.address("server"), host_token, token)
    player = Player(relay.address("client"), player_token, token)
    with host, player:
        host.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
    return Side(relay, token, host_token, player_token, connection_id)


def knows_fleet(relay: RelayProcess, sockets: int) -> bool:
    return bool(relay.log_lines(event="addresses of the fleet's other relays are refused", sockets=sockets))


def nested(one: Side, other: Side) -> bytes:
    """What a host sends its player, who is the other relay's host and sends it to its player, and so on."""
    datagram = b"\x01"
    for level in range(LEVELS):
        # What a relay sends its player begins with the type of DATA: there the next header's first byte stands.
        header = (one, other)[(LEVELS - 1 - level) % 2].from_host()
        datagram = (header if level == LEVELS - 1 else header[1:]) + datagram
    return datagram


@needs_invented_sources
def test_two_relays_are_not_made_to_send_each_other_what_they_hear(
    control_plane: Server, start_relay: StartRelay
) -> None:
    relays = {city: start_relay(None, following(control_plane, city)) for city in ("Paris", "Montreal")}
    paris, montreal = (side(control_plane, relay, city) for city, relay in relays.items())
    for relay in relays.values():
        eventually(lambda: knows_fleet(relay, 4), "it knows the sockets of both")  # noqa: B023 - called at once
    before = {city: relay.counts() for city, relay in relays.items()}
    sent: dict[str, list[bytes]] = {"server": [], "client": []}

    def invent(at: Side, source: Address, port: str, datagram: bytes) -> None:
        send_from(source, at.relay.address(port), datagram)
        if at is paris:
            sent[port].append(datagram)

    for here, there in ((paris, montreal), (montreal, paris)):
        invent(here, there.relay.address("client"), "server", here.header(here.host) + PING)
        invent(here, there.relay.address("server"), "client", here.header(here.player) + PING)
    loop = nested(paris, montreal)
    assert len(loop) <= 1200
    for _ in range(DATAGRAMS):
        invent(paris, montreal.relay.address("client"), "server", loop)
    refused = [counted(port, "bad_source", *datagrams) for port, datagrams in sent.items()]
    relays["Paris"].assert_counted(before["Paris"], *refused)
    with ExitStack() as stack:
        # They play on, and nothing has come from the other relay.
        host = stack.enter_context(Host(montreal.relay.address("server"), montreal.host, montreal.session))
        assert host.ping_until(VALID)
        moved = montreal.relay.counted_since(before["Montreal"], 3)
    assert moved.keys() == {"server bad_source", "client bad_source", "server answered"}


def test_who_is_bound_where_a_relay_turns_out_to_be_is_unbound(control_plane: Server, start_relay: StartRelay) -> None:
    relay = start_relay(None, following(control_plane, "Paris"))
    session = session_of(control_plane, "Paris", 3)
    host_token, *players = tokens_of(session)
    token = session["authorization_token"]
    client = relay.address("client")
    with (
        Host(relay.address("server"), host_token, token) as host,
        Player(client, players[0], token) as relay_to_be,
        Player(client, players[1], token) as player,
    ):
        for peer in (host, relay_to_be, player):
            peer.ping_until(VALID)
        relay_to_be.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        other = FakeRelay(control_plane, "relay-Montreal", ip="127.0.0.1", server_port=1, client_port=relay_to_be.port)
        other.beat()
        eventually(lambda: knows_fleet(relay, 4), "it knows the sockets of both")
        before = relay.counts()
        refused = relay_to_be.send_ping()
        said = host.say(connection_id, b"for the player that is a relay")
        with talking(player):
            relay.counted_since(before, 3)
        moved = relay.counts()
        assert moved["client bad_source"].datagrams - before["client bad_source"].datagrams == 1, refused
        unknown = "server unknown_connection"
        assert moved[unknown].datagrams - before[unknown].datagrams == 1, said
        assert relay_to_be.received_by_now() == []
        # At the same IP address, others play on; and its user comes back from elsewhere at once.
        assert set(player.received_by_now()) <= {VALID}
        with Player(client, players[0], token) as elsewhere:
            assert elsewhere.ping() == VALID
