"""`relayd fast-path`: what is pinned, in words, and how it is taken off."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from relayd.commands import fast_path as command
from relayd.core.declaration.kernel_maps import MAPS
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.layout import InterfaceMode
from relayd.forwarding.kernel.libbpf import LibraryMissingError
from tests.support.command_line import CommandLine


class FakeMap:
    """A pinned map with these entries, as it is declared."""

    def __init__(self, name: str, entries: dict[bytes, bytes]) -> None:
        (declared,) = (one for one in MAPS if one.name == name)
        self.fd = os.open("/dev/null", os.O_RDONLY)
        self.name, self.kind, self.flags = name, declared.kind, declared.flags
        self.key_bytes, self.value_bytes = declared.key.size_bytes, declared.value.size_bytes
        self._entries = entries

    def lookup(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def items(self) -> Any:
        return self._entries.items()


class FakePins:
    """What is pinned, as the test says."""

    on: dict[str, int] = {}  # noqa: RUF012 - the test's
    kept: dict[str, FakeMap] = {}  # noqa: RUF012
    failure: OSError | None = None
    removed = 0

    def __init__(self, directory: Path, relay_id: str) -> None:
        self.folder = directory / relay_id

    def links(self) -> dict[str, int]:
        if self.failure is not None:
            raise self.failure
        return {name: os.open("/dev/null", os.O_RDONLY) for name in self.on}

    def maps(self) -> dict[str, FakeMap]:
        return self.kept

    def exist(self) -> bool:
        return bool(self.on)

    def remove(self) -> None:
        if self.failure is not None:
            raise self.failure
        FakePins.removed += 1


@pytest.fixture(autouse=True)
def pins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("on", {}), ("kept", {}), ("failure", None), ("removed", 0)):
        monkeypatch.setattr(FakePins, name, value)
    monkeypatch.setattr(command, "Pins", FakePins)
    monkeypatch.setattr(command, "library", lambda: None)
    indexes = iter((7, 0))
    monkeypatch.setattr(command, "link_ifindex", lambda _: next(indexes))
    monkeypatch.setattr(command, "attached_mode", lambda _: InterfaceMode.NATIVE)
    monkeypatch.setattr(command, "link_program", lambda _: 42)
    monkeypatch.setattr(command, "occupants", lambda _relay: ())


def test_where_nothing_is_pinned_it_is_off(relayd: CommandLine) -> None:
    assert "the fast path is off" in relayd("fast-path", "status").out
    assert "nothing is pinned" in relayd("fast-path", "remove").out
    assert FakePins.removed == 0


def test_where_it_is_and_whom_it_serves(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePins, "on", {"eth0": 1, "eth1": 2})
    pair = bytes(layout.Pair((3, 0))), bytes(layout.Pair((4, 5))), bytes(layout.Pair())
    control = bytes(layout.Control(layout=layout.DIGEST))
    monkeypatch.setattr(
        FakePins,
        "kept",
        {
            "control": FakeMap("control", {bytes(4): control}),
            "pairs": FakeMap("pairs", {bytes([number]) * 8: value for number, value in enumerate(pair)}),
        },
    )
    done = relayd("fast-path", "status")
    assert done.status == 0
    assert "interface   eth0: on, native, program 42" in done.out
    assert "interface   eth1: taken off" in done.out
    assert "to be replaced" not in done.out
    assert "users       3 authorized, 3 bindings served" in done.out


def test_one_that_lost_what_was_sent_by_it(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    indexes = iter((7, 8))
    monkeypatch.setattr(command, "link_ifindex", lambda _: next(indexes))
    monkeypatch.setattr(FakePins, "on", {"eth0": 1, "eth1": 2})
    control = bytes(layout.Control(layout=layout.DIGEST))
    sends_by = FakeMap("interfaces", {(8).to_bytes(4, "little"): (1).to_bytes(4, "little")})
    monkeypatch.setattr(FakePins, "kept", {"control": FakeMap("control", {bytes(4): control}), "interfaces": sends_by})
    out = relayd("fast-path", "status").out
    assert "interface   eth0: on, native, program 42, but it lost what the program sent by it: the sockets serve" in out
    assert "interface   eth1: on, native, program 42\n" in out


def test_another_versions_layout_is_to_be_replaced(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bytes(layout.Control(layout=1))
    monkeypatch.setattr(FakePins, "kept", {"control": FakeMap("control", {bytes(4): old})})
    out = relayd("fast-path", "status").out
    assert "to be replaced by this version" in out
    assert "users " not in out


def test_it_is_taken_off(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePins, "on", {"eth0": 1})
    assert "removed" in relayd("fast-path", "remove").out
    assert FakePins.removed == 1


@pytest.mark.parametrize("what", ["status", "remove"])
def test_no_right_to_is_one_sentence(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(FakePins, "on", {"eth0": 1})
    monkeypatch.setattr(FakePins, "failure", PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
    done = relayd("fast-path", what)
    assert (done.status, "Operation not permitted" in done.err) == (69, True)


@pytest.mark.parametrize("what", ["status", "remove"])
def test_without_libbpf_that_is_said(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def missing() -> None:
        raise LibraryMissingError("install libbpf1")

    monkeypatch.setattr(command, "library", missing)
    done = relayd("fast-path", what)
    assert (done.status, "install libbpf1" in done.err) == (69, True)
