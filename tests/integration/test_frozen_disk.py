"""The disk of the state directory is frozen, as for a snapshot, while a game is played on the relay of a unit."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from relayd.state import layout
from tests.integration.commands import relayd
from tests.integration.config import Sections, new_session
from tests.integration.disks import Disk, disk_of_its_own
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID, Host, Player
from tests.integration.programs import Process, start
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import PATIENCE_SECONDS, eventually

FILE = "bindings.state"
STILL_COPIED = "another process holds it, such as the one that copied for the relay before"


class RelayOfUnit(RelayProcess):
    """A relay whose service manager made a folder for it that outlives it."""

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        return start(arguments, out, err, {**environment(), "RUNTIME_DIRECTORY": str(self.folder / "run")})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with disk_of_its_own(tmp_path) as disk:
        yield disk


def settings_of(disk: Disk, **relay: object) -> Sections:
    return {
        "relay": relay,
        "state": {"directory": str(disk.path / "state")},
        "admin": {"socket": "run/admin.sock"},
        # Its journal is on that disk too.
        "usage": {"interval": 0},
    }


def beat(file: Path) -> float:
    """When a relay last wrote there."""
    with file.open("rb") as state:
        state.seek(layout.HEARTBEAT_AT)
        seconds: float = layout.HEARTBEAT.unpack(state.read(layout.HEARTBEAT.size))[1]
    return seconds


def states_of_children(pid: int) -> set[str]:
    """How the children of a process are: ``D`` is a wait that nothing interrupts (proc_pid_stat(5))."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Threads come and go.
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in (task / "children").read_text(encoding="ascii").split():
                found.add(Path(f"/proc/{child}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0])
    return found


@pytest.mark.parametrize("forwarder", ["native", "python"])
def test_a_game_goes_on_over_a_frozen_disk_and_restarts_on_it(tmp_path: Path, forwarder: str, disk: Disk) -> None:
    session = new_session("snapshot", players=2)
    (tmp_path / "run").mkdir()
    live, copy = tmp_path / "run" / FILE, disk.path / "state" / FILE
    relay = RelayOfUnit(tmp_path, [session], settings_of(disk, forwarder=forwarder))
    with relay, relay.host(session) as host, relay.player(session) as player, relay.player(session, 1) as late:
        same = settings_of(disk, **relay.settings["relay"])
        connection_id = begins(host, player)
        eventually(lambda: copy.exists() and beat(copy) > 0, "there is a copy")
        with disk.frozen():
            # The first stores to be seen there since: a binding, counts, heartbeats.
            late_id = begins(host, late)
            plays(host, player, connection_id)
            frozen_at = beat(live)
            eventually(lambda: beat(live) > frozen_at, "the relay goes on to write")
            eventually(lambda: "D" in states_of_children(relay.process.pid), "what copies it hangs")
            done = relayd("upgrade", "--config", str(relay.config_path))
            assert (done.returncode, done.stderr) == (0, "")
            plays(host, late, late_id)
            relay.process.send_signal(signal.SIGTERM)
            assert relay.process.wait(PATIENCE_SECONDS) == 0
            said = relay.log_lines(event="the copy of the state is behind")
            assert [line["why"] for line in said][-2:] == ["the last copy takes longer than 2 s", STILL_COPIED]
            with RelayOfUnit(tmp_path, None, same) as again:
                plays(host, player, connection_id)
                plays(host, late, late_id)
                assert forwarded(again) == 6
        thawed_at = beat(live)
        with RelayOfUnit(tmp_path, None, same) as again:
            eventually(lambda: beat(copy) > thawed_at, "the copy is brought up to date")
            plays(host, player, connection_id)
        # As systemd does where a unit is stopped, and not only started anew.
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir()
        with RelayOfUnit(tmp_path, None, same) as again:
            plays(host, player, connection_id)
            plays(host, late, late_id)
            assert forwarded(again) == 9


def begins(host: Host, player: Player) -> int:
    """A player comes to the game. Returns its connection id."""
    host.ping_until(VALID)
    player.ping_until(VALID)
    player.say(OPENS_CONNECTION)
    connection_id, payload = host.hear()
    assert payload == OPENS_CONNECTION
    return connection_id


def plays(host: Host, player: Player, connection_id: int) -> None:
    """What is said arrives, both ways, of whoever was bound before."""
    player.say(GOES_ON)
    assert host.hear() == (connection_id, GOES_ON)
    host.say(connection_id, GOES_ON)
    assert player.hear() == GOES_ON


def forwarded(relay: RelayProcess) -> float:
    return relay.metrics()["relayd_datagrams_total", "client", "forwarded"]
