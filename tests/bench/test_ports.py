"""Which ports a program is given."""

import socket
from pathlib import Path

import pytest

from bench import ports


@pytest.mark.parametrize(
    ("ephemeral", "given"),
    [
        ("32768\t60999\n", range(16384, 32768)),
        ("1024\t50000\n", range(50001, 65536)),
        ("1024\t65535\n", range(1024, 65536)),
    ],
)
def test_they_are_not_ephemeral_where_enough_others_are_left(
    ephemeral: str, given: range, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "range"
    path.write_text(ephemeral)
    monkeypatch.setattr(ports, "_EPHEMERAL", path)
    found = ports.free_ports(3, socket.SOCK_STREAM)
    assert len(set(found)) == 3
    assert all(port in given for port in found)
