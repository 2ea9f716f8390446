"""What to begin with: the recorded games of tests/fixtures, and one right example of everything else."""

import json
import struct
from collections.abc import Callable
from itertools import islice

from fuzz import recorded
from fuzz.targets import datagrams
from tests.integration.captures import Recorded

_DATAGRAMS = 60
_PAYLOAD_BYTES = 40
_EVERYBODY = bytes((0, 0, 0))
"""Settings and sessions of `datagrams`: defaults, one session, nobody absent."""

_SESSION = {
    "session_id": "game",
    "authorization_token": 5,
    "session_users": [{"authorization_token": 7, "ip_address": "10.0.0.1"}, {"authorization_token": 8}],
}
_RELAY = {"ip": "192.0.2.1", "host": "h", "ports": {"server": {"port": 7000, "link": ""}}}
_RELAY["ports"]["client"] = {"port": 7001, "link": ""}  # type: ignore[index]
_HEARTBEAT = {"ip": "192.0.2.1", "host": "h", "server_port": 7000, "client_port": 7001, "capacity": 9, "load": 0}

_COUNTS = {"to_host_datagrams": 1, "to_host_bytes": 9, "to_player_datagrams": 1, "to_player_bytes": 9}
_USAGE = {
    "stream": "s",
    "records": [
        {
            "sequence": 1,
            "span": "s-1",
            "session_id": "$S",
            "kind": "interim",
            "reason": None,
            "began_at": 5.0,
            "from_at": 5.0,
            "to_at": 6.0,
            "delta": _COUNTS,
            "total": _COUNTS,
        }
    ],
}


def _recorded_game(name: str) -> bytes:
    """The beginning of a game as operations of `datagrams`; of each peer, what it sent from one address."""
    operations = [_EVERYBODY]
    addresses: dict[str, int] = {}
    seconds = 0.0
    for one in islice(recorded.arrivals(name), _DATAGRAMS):
        address = addresses.setdefault(one.peer, len(addresses) % len(datagrams.ADDRESSES))
        if one.seconds - seconds >= 0.25:
            operations.append(bytes((datagrams.TIME_PASSES, 0)))
            seconds = one.seconds
        operations.append(_raw(one, address))
    operations.append(bytes((datagrams.EXPIRE, 0)))
    return b"".join(operations)


def _raw(one: Recorded, address: int) -> bytes:
    endpoint = 0 if one.port == "server" else 1
    content = one.datagram[: 13 + _PAYLOAD_BYTES]
    return bytes((datagrams.RAW, endpoint + 4 * address, len(content))) + content


def _session_files() -> list[bytes]:
    named = {"sessions": [_SESSION, {"session_id": "not yet", "ready": False}], "total_count": 2}
    return [json.dumps(named, indent=indent).encode() for indent in (None, 2)]


def _last_good() -> list[bytes]:
    head = json.dumps({"epoch": "e", "revision": 12})[:-1]
    return [f'{head}, "sessions": [\n{json.dumps(_SESSION)}\n]}}\n'.encode()]


def _answers(*answers: tuple[int, int, object]) -> bytes:
    return b"".join(
        bytes((status, header)) + json.dumps(body, separators=(",", ":")).encode() + b"\0"
        for status, header, body in answers
    )


def _node_answers() -> list[bytes]:
    def page(revision: int, full: bool, sessions: list[object], removed: list[str]) -> tuple[int, int, object]:
        state = {"epoch": "e", "revision": revision, "full": full, "sessions": sessions}
        return 0, 0, {**state, "removed": removed, "next": None}

    listed = {"sessions": [{**_SESSION, "relay": _RELAY}], "pagination": {"has_next": False}}
    newest = {"epoch": "e", "revision": 3}
    fleet = {"digest": "d", "relays": [{"addresses": ["203.0.113.9"], "ports": [32000, 32001]}]}
    told = {**newest, "fleet": fleet}
    return [
        _answers((0, 0, newest), page(3, True, [_SESSION], []), (0, 0, told), page(4, False, [], ["game"])),
        _answers((5, 0, {"message": "what heartbeat?"}), (0, 1, listed), (4, 0, None)),
        _answers((8, 3, {"message": "busy"}), (0, 5, newest)),
    ]


def _requests() -> list[bytes]:
    create = {"users": ["10.0.0.1", {"ip": "10.0.0.2", "latitude": 1.5}], "webhook_url": "https://example.org/hook"}
    rows: list[tuple[int, str, str, str]] = [
        (6, "r1", "wait=0", json.dumps(_HEARTBEAT)),
        (0, "", "", json.dumps(create)),
        (1, "", "page=1&limit=2", ""),
        (2, "$S", "", ""),
        (4, "", "", '{"session_id":"$S","user_ip":"10.0.0.9"}'),
        (5, "", "", '{"session_id":"$S","authorization_token":$T}'),
        (7, "r1/sessions", "since=0&epoch=e&after=$S&limit=1", ""),
        (6, "r1", "", json.dumps({**_HEARTBEAT, "epoch": "e", "revision": 1, "ended": ["$S"]})),
        (9, "r1/usage", "", json.dumps(_USAGE)),
        (10, "", "since=0&until=9e9&limit=1&relay=r1&session_id=$S&after=a/r1", ""),
        (3, "$S", "", ""),
    ]
    return [b"".join(bytes((row[0],)) + b"".join(text.encode() + b"\0" for text in row[1:]) for row in rows)]


def _state_files() -> list[bytes]:
    def edit(area: int, at: int, content: bytes) -> bytes:
        return bytes((area,)) + struct.pack("<H", at) + bytes((len(content) - 1,)) + content

    nan = bytes((128,))
    return [
        b"\0",
        b"\3\0",
        b"\3\100",
        b"\0" + edit(0, 0, b"foreign!"),
        b"\0" + b"".join(bytes((area,)) + bytes(2) + nan for area in range(1, 6)),
        b"\4" + edit(5, 4, bytes((1, 1, 0, 0))) + edit(5, 128 + 16, b"\1\0\0\0"),
    ]


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "datagrams": lambda: [_recorded_game(name) for name in recorded.GAMES],
    "limits": lambda: [bytes((255,)) + bytes(range(0, 256, 5)) * 3],
    "session-file": _session_files,
    "state-file": _state_files,
    "last-good": _last_good,
    "node-api": _node_answers,
    "api": _requests,
}


def of(target: str) -> list[bytes]:
    """Inputs of a target to begin with."""
    return _SEEDS[target]()
