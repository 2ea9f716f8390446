"""Floods in all forms that the kernel program does not judge itself: they do not get past it, and players get in."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayd.settings import FastPathSettings
from tests.integration.config import SessionKeys, new_session, new_token
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, PING, VALID, Host, Player
from tests.integration.relay_process import RelayProcess
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

DATAGRAMS = 10_000
"""In one flood: at whatever rate they come, most of them are more than is passed up."""
MORE_FRAGMENTS = 0x2000
NO_OPERATIONS = b"\x01" * 4
ATTACKER = "127.6.6.6"

Flood = Callable[[RelayProcess, SessionKeys], None]


def from_raw_socket(options: bytes = b"", fragment: int = 0, behind: bytes = b"", right: bool = False) -> Flood:
    """IPv4 datagrams as no UDP socket sends them; with the right tokens those of a player who is bound elsewhere."""

    def flood(relay: RelayProcess, keys: SessionKeys) -> None:
        to = relay.address("client")
        user = keys.players[0] if right else new_token()
        payload = struct.pack("<II", user, keys.token) + PING + bytes(7)
        udp = struct.pack(">HHHH", 6666, to[1], 8 + len(payload), 0) + payload + behind
        first = 0x45 + len(options) // 4
        head = struct.pack(">BBHHHBBH", first, 0, 0, 0, fragment, 64, socket.IPPROTO_UDP, 0)
        packet = head + socket.inet_aton(ATTACKER) + socket.inet_aton(to[0]) + options + udp
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            for _ in range(DATAGRAMS):
                sock.sendto(packet, (to[0], 0))

    return flood


def behind_extension_headers(relay: RelayProcess, keys: SessionKeys) -> None:
    """IPv6 datagrams with options for the destination."""
    datagram = struct.pack("<II", new_token(), keys.token) + PING
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes(2) + b"\x01\x04" + bytes(4))
        for _ in range(DATAGRAMS):
            sock.sendto(datagram, relay.address("client", "::1"))


def right_tokens_from_elsewhere(relay: RelayProcess, keys: SessionKeys) -> None:
    """Of a user who would be host, and may not."""
    with Player(relay.address("server"), keys.players[-1], keys.token, (ATTACKER, 0)) as insider:
        for _ in range(DATAGRAMS):
            insider.send_ping()


FLOODS: dict[str, Flood] = {
    "an IP option": from_raw_socket(options=NO_OPERATIONS),
    "first fragments": from_raw_socket(fragment=MORE_FRAGMENTS),
    "bytes behind the UDP length": from_raw_socket(behind=bytes(4)),
    "right tokens and an IP option": from_raw_socket(options=NO_OPERATIONS, right=True),
    "extension headers": behind_extension_headers,
    "right tokens from elsewhere": right_tokens_from_elsewhere,
}


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    with own_network(), bpf_file_system(tmp_path / "bpf") as folder:
        yield folder


def dropped(relay: RelayProcess) -> float:
    """How many the kernel dropped."""
    return sum(
        value
        for (name, *labels), value in relay.metrics().items()
        if name == "relayd_fast_path_datagrams_total" and labels[-1] not in ("forwarded", "answered")
    )


def test_floods_do_not_reach_the_sockets(tmp_path: Path, pins: Path) -> None:
    bounds = FastPathSettings()
    keys = new_session("flooded", players=len(FLOODS) + 2)
    sections = {
        **on_loopback(pins),
        "relay": {"bind": ["127.0.0.1", "::1"]},
        # However long it takes: nobody loses its place to the flood.
        "limits": {"rebind_after": 3600.0, "host_timeout": 3600.0, "user_timeout": 3600.0},
    }
    with (
        RelayProcess(tmp_path, [keys], sections, ("run",)) as relay,
        relay.host(keys) as host,
        relay.player(keys) as playing,
    ):
        assert (host.ping(), playing.ping()) == (VALID, VALID)
        playing.say(OPENS_CONNECTION)
        connection, _ = host.hear()
        for number, (name, flood) in enumerate(FLOODS.items(), start=1):
            before, began = dropped(relay), time.monotonic()
            flood(relay, keys)
            with relay.player(keys, number) as joins:
                joins.ping_until(VALID)
            seconds = time.monotonic() - began
            most = max(bounds.unknown_per_source_per_second, bounds.known_per_user_per_second) * (1 + seconds)
            passed = DATAGRAMS - (dropped(relay) - before)
            assert passed <= most, f"{name}: {passed:.0f} of {DATAGRAMS} were passed up"
            exchange(host, playing, connection)


def exchange(host: Host, player: Player, connection: int) -> None:
    """The game goes on."""
    player.say(GOES_ON)
    assert host.hear() == (connection, GOES_ON)
    host.say(connection, GOES_ON)
    assert player.hear() == GOES_ON
