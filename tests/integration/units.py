"""What the tests of the units share: configurations, and a look at what is running."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.config import SessionKeys, to_toml
from tests.integration.machine import Machine
from tests.integration.peers import Host, Player
from tests.integration.waiting import PATIENCE_SECONDS, eventually

FIRST: dict[str, Any] = {
    "relay": {"bind": ["127.0.0.1", "::1"], "receive_buffer_bytes": 1 << 20, "send_buffer_bytes": 1 << 20},
    # So rarely that what is seen in time was read because of a reload.
    "source": {"path": "/var/lib/relayd/sessions.json", "poll_interval": 600},
    "api": {
        "token_file": "/run/credentials/relayd-control-plane.service/api-token",
        "database": "/var/lib/relayd-control-plane/relayd.sqlite3",
    },
}
SECOND: dict[str, Any] = {
    "relay": {**FIRST["relay"], "id": "two", "server_port": 33000, "client_port": 33001},
    "admin": {"bind": "127.0.0.1:9465"},
    "source": {
        "kind": "control_plane",
        "token_file": "/run/credentials/relayd@two.service/control-plane-token",
    },
    "fast_path": {"mode": "require", "interfaces": ["lo"]},
}
KEY = "a-key-for-tests"


def configure(machine: Machine, name: str, settings: dict[str, Any]) -> None:
    (machine.root / "etc" / "relayd" / name).write_text(to_toml(settings), encoding="utf-8")


def write_sessions(machine: Machine, *sessions: SessionKeys) -> None:
    text = json.dumps({"sessions": [session.as_json() for session in sessions]})
    machine.run("sh", "-c", f"echo '{text}' >/var/lib/relayd/sessions.json")


@contextmanager
def running(machine: Machine, *sessions: SessionKeys) -> Iterator[None]:
    """relayd.service with these sessions; stopped at the end."""
    machine.run("mkdir", "-p", "/var/lib/relayd")
    write_sessions(machine, *sessions)
    machine.systemctl("start", "relayd")
    try:
        yield
    except BaseException:
        sys.stderr.write(machine.log_of("relayd*"))
        raise
    finally:
        machine.systemctl("stop", "relayd")


def host_of(session: SessionKeys, port: int = 32000) -> Host:
    return Host(("127.0.0.1", port), session.host, session.token)


def player_of(session: SessionKeys, number: int = 0, port: int = 32001, ip: str = "127.0.0.1") -> Player:
    return Player((ip, port), session.players[number], session.token)


def metrics(admin_port: int = 9464) -> dict[tuple[str, ...], float]:
    with urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=PATIENCE_SECONDS) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sockets() -> dict[str, str]:
    """Inode by local address and port, of each UDP socket of this network that is a relay's (proc(5))."""
    found = {}
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) in (32000, 32001):
                found[fields[1]] = fields[9]
    return found


def main_pid(machine: Machine, unit: str = "relayd") -> int:
    return int(machine.property(unit, "MainPID"))


def process_after(machine: Machine, pid: int, unit: str = "relayd") -> int:
    """The next process of a unit, once it is ready."""
    eventually(lambda: main_pid(machine, unit) not in (0, pid), "another process runs")
    eventually(lambda: machine.property(unit, "ActiveState") == "active", "it is ready")
    return main_pid(machine, unit)


class Talker(threading.Thread):
    """A player that goes on PINGing, as players do: an ICMP error would be raised, and end it."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._player = player
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(0.002):
                self._player.send_ping()
                self._player.received_by_now()
        except OSError as error:
            self.error = error

    def stop(self) -> None:
        self._over.set()
        self.join()


def api(key: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    request = Request(
        f"http://127.0.0.1:8080/v1/relays/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"token {key}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
