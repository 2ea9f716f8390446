"""Faults of the machine: interfaces, links, disks, clocks, descriptors. Games go on, and what was lost comes back."""

import resource
import socket
import struct
from pathlib import Path
from typing import IO

import pytest

from tests.integration.cable import Cabled, with_cable
from tests.integration.clocks import Clock, needs_faketime
from tests.integration.config import Sections, SessionKeys, new_session
from tests.integration.disks import may_mount, on_a_disk
from tests.integration.peers import DATA, OPENS_CONNECTION, PING, VALID, Host, Player
from tests.integration.programs import Process
from tests.integration.relay_process import RelayProcess
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.waiting import PATIENCE_SECONDS, eventually

BURST = 20
PAYLOAD = b"x" * 1000
HOUR_SECONDS = 3600


# Interfaces and links -----------------------------------------------------------------------------------------


@with_cable
def test_an_interface_that_was_down_changes_nothing(cabled: Cabled) -> None:
    here, host, player = cabled.here, cabled.host, cabled.player
    here.ip("link", "set", "cable", "down")
    for _ in range(BURST):
        host.say(cabled.connection_id, PAYLOAD)
    assert host.ping() == VALID
    here.ip("link", "set", "cable", "up")
    assert player.ping_until(VALID)[-1] == VALID
    player.say(b"back")
    assert host.hear() == (cabled.connection_id, b"back")
    host.say(cabled.connection_id, b"so I see")
    while (heard := player.receive()) == VALID:
        """Of a PING that was sent before the interface was up."""
    assert heard == DATA + b"so I see"


@with_cable
def test_a_link_that_takes_only_short_datagrams_gets_them_in_fragments(cabled: Cabled) -> None:
    """Several to one peer then cannot leave as one: the kernel refuses that, and each is sent alone."""
    for side in (cabled.here, cabled.there):
        side.ip("link", "set", "cable", "mtu", "600")
    for _ in range(BURST):
        cabled.host.say(cabled.connection_id, PAYLOAD)
    assert [cabled.player.hear() for _ in range(BURST)] == [PAYLOAD] * BURST


def test_a_player_whose_port_is_closed_disturbs_nobody(tmp_path: Path) -> None:
    """The kernel is told by ICMP, and would tell the relay with its next call."""
    session = new_session("game")
    with RelayProcess(tmp_path, [session]) as relay, relay.host(session) as host, relay.player(session, 1) as stays:
        with relay.player(session) as leaves:
            left = connection_of(host, leaves)
        there = connection_of(host, stays)
        for number in range(BURST):
            host.say(left, PAYLOAD)
            host.say(there, b"%d" % number)
        assert [stays.hear() for _ in range(BURST)] == [b"%d" % number for number in range(BURST)]
        assert host.ping() == VALID


def connection_of(host: Host, player: Player) -> int:
    """Has everybody come in. Returns how the host knows the player."""
    assert (host.ping(), player.ping()) == (VALID, VALID)
    player.say(OPENS_CONNECTION)
    return host.hear()[0]


# Disks --------------------------------------------------------------------------------------------------------


class OnItsOwnDisk(RelayProcess):
    """A relay whose folder ``state`` is a file system that only it sees.

    Args:
        options: of the tmpfs.
        folder: where its files go.
        session: what it serves.
        overrides: settings.
    """

    def __init__(self, options: str, folder: Path, session: SessionKeys, overrides: Sections | None = None) -> None:
        super().__init__(folder, [session], overrides)
        disk = folder / "state"
        disk.mkdir()
        self._before = on_a_disk(str(disk), options)

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        return super()._popen([*self._before, *arguments], out, err)


@pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")
@pytest.mark.parametrize("options", ["size=32k", "ro"], ids=["full", "read-only"])
def test_without_a_disk_for_its_state_a_relay_relays(tmp_path: Path, options: str) -> None:
    session = new_session("game")
    relay = OnItsOwnDisk(options, tmp_path, session)
    with relay, relay.host(session) as host, relay.player(session) as player:
        connection_id = connection_of(host, player)
        host.say(connection_id, b"welcome")
        assert player.hear() == b"welcome"
        assert relay.log_lines(event="no state is kept: after a restart players have to bind again")


@pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")
def test_a_disk_that_gets_full_keeps_no_new_player_out(tmp_path: Path) -> None:
    """There is room for the first part of the state, and none for the second."""
    session = new_session("crowded", players=4200)
    relay = OnItsOwnDisk("size=1300k", tmp_path, session)
    with relay, relay.host(session) as host:
        assert host.ping() == VALID
        for number, token in enumerate(session.players):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as player:
                # Each at an address of its own: one that is used again would be taken from who had it.
                player.bind((f"127.1.{number >> 8}.{number & 255}", 0))
                player.settimeout(PATIENCE_SECONDS)
                player.sendto(struct.pack("<II", token, session.token) + PING, relay.address("client"))
                assert player.recv(16) == VALID, number
        assert relay.log_lines(event="no room for more state: new players are served slower, and not kept")
        with relay.player(session, len(session.players) - 1) as last:
            assert last.ping_until(VALID)
            last.say(OPENS_CONNECTION)
            connection_id, _ = host.hear()
            host.say(connection_id, b"welcome")
            assert last.hear() == b"welcome"
        assert relay.metrics()["relayd_users", "player"] == len(session.players)


@pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")
def test_without_a_disk_for_the_last_good_sessions_a_control_plane_is_followed(tmp_path: Path) -> None:
    session, later = new_session("game"), new_session("later")
    with StandIn(nodes=True) as stand_in:
        source = {"kind": "control_plane", "url": stand_in.url, "poll_interval": 0.1}
        relay = OnItsOwnDisk("ro", tmp_path, session, {"source": source, "relay": {"public_ip": "203.0.113.1"}})
        stand_in.sessions = [relay_session(session, "203.0.113.1", 1, 2)]
        with relay:
            eventually(lambda: relay.log_lines(event="last good sessions not kept"), "that is said")
            stand_in.sessions.append(relay_session(later, "203.0.113.1", 1, 2))
            stand_in.revision += 1
            eventually(lambda: relay.metrics()["relayd_sessions",] == 2, "the relay follows")
        assert len(relay.log_lines(event="last good sessions not kept")) == 1


# Descriptors --------------------------------------------------------------------------------------------------


def test_without_descriptors_games_go_on_and_with_them_everything(tmp_path: Path) -> None:
    session, later = new_session("game"), new_session("later")
    with RelayProcess(tmp_path, [session]) as relay, relay.host(session) as host, relay.player(session) as player:
        connection_id = connection_of(host, player)
        pid = relay.process.pid
        used = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()) + 1
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        relay.allowed_errors = 100
        ip, _, port = relay.settings["admin"]["bind"].rpartition(":")
        with socket.create_connection((ip, int(port))), socket.create_connection((ip, int(port))):
            relay.write_sessions([session, later])
            for number in range(BURST):
                player.say(b"%d" % number)
                assert host.hear() == (connection_id, b"%d" % number)
                host.say(connection_id, b"%d" % number)
                assert player.hear() == b"%d" % number
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        eventually(lambda: relay.metrics()["relayd_sessions",] == 2, "the file is followed, the admin server answers")


# Clocks -------------------------------------------------------------------------------------------------------


class WithAClock(RelayProcess):
    """A relay that goes by a clock of its own."""

    def __init__(self, folder: Path, session: SessionKeys) -> None:
        super().__init__(folder, [session])
        self.clock = Clock(folder)

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        return super()._popen([*self.clock.before(), *arguments], out, err)


@needs_faketime
def test_a_clock_that_is_set_by_an_hour_is_not_noticed(tmp_path: Path) -> None:
    session = new_session("game")
    relay = WithAClock(tmp_path, session)
    with relay, relay.host(session) as host, relay.player(session) as player:
        connection_id = connection_of(host, player)
        for seconds in (HOUR_SECONDS, -HOUR_SECONDS, 0):
            relay.clock.set(seconds)
            player.say(b"what time is it?")
            assert host.hear() == (connection_id, b"what time is it?")
            host.say(connection_id, b"game time")
            assert player.hear() == b"game time"
            shown = relay.get_json(f"/v1/sessions/{session.session_id}")
            ages = [one["last_seen_seconds_ago"] for user in shown["users"] for one in user["bindings"]]
            assert len(ages) == 2
            assert all(0 <= age < 60 for age in ages)
            assert relay.metrics()["relayd_users", "player"] == 1
