"""Configuration and session files for relays under test, and ports that are free."""

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any, NamedTuple

from bench.ports import free_ports

Sections = dict[str, dict[str, Any]]


class SessionKeys(NamedTuple):
    """A session as a session file names it. The first user is meant to be the host."""

    session_id: str
    token: int
    users: tuple[int, ...]
    ip_addresses: tuple[str | None, ...] = ()

    @property
    def host(self) -> int:
        return self.users[0]

    @property
    def players(self) -> tuple[int, ...]:
        return self.users[1:]

    def as_json(self) -> dict[str, Any]:
        addresses = self.ip_addresses or (None,) * len(self.users)
        return {
            "session_id": self.session_id,
            "authorization_token": self.token,
            "session_users": [
                {"ip_address": address, "authorization_token": user}
                for user, address in zip(self.users, addresses, strict=True)
            ],
        }


_made: set[int] = set()


def new_token() -> int:
    """One that was not made before, and that is long enough in both notations to be told from all other numbers.

    Of 10,000 made by chance alone, two are the same in one of 80 runs.
    """
    while (token := 0x1000_0000 + secrets.randbelow(0xE000_0000)) in _made:
        pass
    _made.add(token)
    return token


def forms_of(token: int) -> list[str]:
    """A token as a number, as hexadecimal digits, and as its bytes go over the wire."""
    return [str(token), f"{token:x}", token.to_bytes(4, "little").hex()]


def new_session(session_id: str, players: int = 2) -> SessionKeys:
    """A session with tokens of its own, for a host and some players."""
    return SessionKeys(session_id, new_token(), tuple(new_token() for _ in range(1 + players)))


def new_sessions(*session_ids: str, players: int = 2) -> list[SessionKeys]:
    return [new_session(session_id, players) for session_id in session_ids]


def write_sessions(path: Path, sessions: list[SessionKeys]) -> None:
    """Replaces the file in one step, as an operator's tool should."""
    replace_text(path, json.dumps({"sessions": [session.as_json() for session in sessions]}, indent=1))


def replace_text(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def to_toml(sections: Sections) -> str:
    """TOML of plain values; JSON writes those the same way."""
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def configuration(overrides: Sections | None = None) -> Sections:
    """A configuration on free ports of the loopback interface, with a session file beside it, read ten times a second.

    Values of ``overrides`` take precedence, key by key.
    """
    server_port, client_port = free_ports(2)
    admin_port, api_port = free_ports(2, socket.SOCK_STREAM)
    sections: Sections = {
        "relay": {
            "bind": ["127.0.0.1"],
            "server_port": server_port,
            "client_port": client_port,
            "receive_buffer_bytes": 1 << 20,
            "send_buffer_bytes": 1 << 20,
        },
        "source": {"path": "sessions.json", "poll_interval": 0.1, "shrink_hold": 0.0},
        "admin": {"bind": f"127.0.0.1:{admin_port}"},
        "api": {"bind": f"127.0.0.1:{api_port}"},
        "state": {"directory": "state"},
        # All of a test's peers share one address.
        "limits": {
            "refusals_per_source_per_second": 1000,
            "guesses_per_source_per_second": 1000,
            "guesses_per_second": 1000,
        },
    }
    if interfaces := os.environ.get("RELAYD_TEST_FAST_PATH"):
        # Not part of a plain run: puts all relays of these tests on the fast path, say on "lo".
        sections["fast_path"] = {"mode": "auto", "interfaces": interfaces.split(",")}
        sections["relay"]["id"] = f"test-{server_port}"
    for section, values in (overrides or {}).items():
        sections.setdefault(section, {}).update(values)
    return sections


def with_forwarder(forwarder: str, overrides: Sections | None = None) -> Sections:
    """These overrides, for a relay whose sockets are served by that."""
    sections = dict(overrides or {})
    return {**sections, "relay": {**sections.get("relay", {}), "forwarder": forwarder}}
