"""Which ports a program is given."""

import multiprocessing
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
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


@contextmanager
def another_process(few: list[int]) -> Iterator[int]:
    """The port that another process has been given of these, and has not used yet."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=choose_and_wait, args=(its, few))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def choose_and_wait(channel: Connection, few: list[int]) -> None:
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(ports, "_choice", lambda _first, _last: few)
        channel.send(ports.free_port(socket.SOCK_STREAM))
        channel.recv()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The only ports there are; nobody claims them in a folder that is this test's."""
    chosen = ports.free_ports(4, socket.SOCK_STREAM)
    monkeypatch.setattr(ports, "_choice", lambda _first, _last: chosen)
    monkeypatch.setattr(ports, "_claims", ports._Claims())
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return chosen


def test_no_other_process_is_given_the_same_before_it_is_used(few: list[int]) -> None:
    with another_process(few) as first, another_process(few) as second:
        given = [first, second, *(ports.free_port(socket.SOCK_STREAM) for _ in range(2))]
    assert sorted(given) == sorted(few)


def test_one_that_was_given_long_ago_can_be_given_again(few: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_REMEMBERED", 3)
    given = [ports.free_port(socket.SOCK_STREAM) for _ in range(8)]
    assert sorted(given[:4]) == sorted(few)
    assert given[4:] == given[:4]
