"""``python -m bench control-plane``: how soon what is said to the API holds at the relay. Real processes, loopback.

Every row is the time from the API's 2xx answer to the first PING that shows it, with the default poll_interval.
"""

import socket
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from bench.machine import describe
from bench.processes import ControlPlane, Relay, wait_for
from relayd.core.wire import encode_ping

ROUNDS = 100
_CHECKING, _VALID, _INVALID, _ENDED = 1, 2, 3, 4
_PING_SECONDS = 0.001


def main() -> None:
    """Runs and prints the table."""
    print(describe())
    print(f"{ROUNDS} sessions, one after another")
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ControlPlane(folder) as control_plane, Relay(folder, control_plane.url) as relay:
            for _ in range(ROUNDS):
                _measure(control_plane.client, relay.client_address, seconds)
    print(f"{'':42}{'p50':>9}{'p99':>9}{'longest':>9}")
    for what, values in seconds.items():
        ordered = sorted(values)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        figures = (statistics.median(ordered), p99, ordered[-1])
        print(f"{what:42}" + "".join(f"{value * 1e3:6.1f} ms" for value in figures))


def _measure(client: httpx.Client, address: tuple[str, int], seconds: dict[str, list[float]]) -> None:
    created = _posted(client, "/v1/relays/sessions", {"users": ["127.0.0.1", "127.0.0.1"]})
    session_id = created["session_id"]
    began = time.perf_counter()
    session: dict[str, Any] = {}

    def ready() -> bool:
        session.update(client.get(f"/v1/relays/sessions/{session_id}").json())
        return bool(session["ready"])

    wait_for(ready, "the session is ready", 0.001)
    seconds["POST to ready"].append(time.perf_counter() - began)
    token = session["authorization_token"]
    player = session["session_users"][1]["authorization_token"]
    seconds["ready to first Valid"].append(_until(address, player, token, _VALID))

    body = {"session_id": session_id, "user_ip": "198.51.100.1"}
    late = _posted(client, "/v1/relays/sessions:authorize-user", body)["session_user"]["authorization_token"]
    seconds["authorize-user to first Valid"].append(_until(address, late, token, _VALID))
    _posted(client, "/v1/relays/sessions:revoke-user", {"session_id": session_id, "authorization_token": late})
    seconds["revoke-user to cut off"].append(_until(address, late, token, _CHECKING, _INVALID))
    client.delete(f"/v1/relays/sessions/{session_id}").raise_for_status()
    seconds["DELETE to first SessionTimeout"].append(_until(address, player, token, _ENDED))


def _posted(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(path, json=body).raise_for_status().json()
    return answer


def _until(address: tuple[str, int], user: int, session: int, *states: int) -> float:
    """Seconds until a PING of that user is answered with one of these states."""
    began = time.perf_counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(1.0)

        def shown() -> bool:
            sock.send(encode_ping(user, session))
            return sock.recv(64)[1] in states

        wait_for(shown, f"one of the states {states}", _PING_SECONDS)
    return time.perf_counter() - began
