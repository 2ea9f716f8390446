"""Names in the folder of a relay's pins: what is pinned there, and what only has such a name."""

import os
from pathlib import Path

import pytest

from relayd.errors import UnavailableError
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel import pins as module
from relayd.forwarding.kernel.pins import Pins, in_bpf_file_system
from tests.support.descriptors import open_descriptors


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pins:
    """Files stand for what is pinned, and say what it is."""

    def opened(path: str) -> int:
        assert not Path(path).is_symlink(), "the kernel refuses that"
        return os.open(path, os.O_RDONLY)

    def pinned(fd: int, path: str) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        Path(path).write_text("bpf-link", encoding="utf-8")

    monkeypatch.setattr(libbpf, "open_pinned", opened)
    monkeypatch.setattr(libbpf, "pin", pinned)
    monkeypatch.setattr(libbpf, "kind_of", lambda fd: os.pread(fd, 100, 0).decode())
    found = Pins(tmp_path, "relay-1")
    found.folder.mkdir()
    return found


def links(pins: Pins) -> set[str]:
    found = pins.links()
    for fd in found.values():
        os.close(fd)
    return set(found)


def test_a_link_to_another_file_is_no_pin(pins: Pins) -> None:
    (pins.folder / "link_eth0").write_text("bpf-link", encoding="utf-8")
    (pins.folder / "link_eth1").symlink_to("/etc/hostname")
    (pins.folder / "map_pairs").symlink_to("/etc/hostname")
    assert links(pins) == {"eth0"}
    assert pins.maps() == {}
    assert pins.exist()


def test_the_program_is_taken_off_before_its_link_is_forgotten(pins: Pins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may hold the link, a process that hangs for one: the name alone does not keep it."""
    taken_off: list[str] = []
    monkeypatch.setattr(module, "detach", lambda fd: taken_off.append(os.readlink(f"/proc/self/fd/{fd}")))  # noqa: PTH115
    for interface in ("eth0", "eth1"):
        pins.pin_link(interface, -1)
    before = open_descriptors()
    pins.remove()
    assert taken_off == [str(pins.folder / f"link_{interface}") for interface in ("eth0", "eth1")]
    assert open_descriptors() <= before
    assert not pins.exist()


def test_of_several_mounts_at_one_place_the_last_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mounted(*kinds: str) -> bool:
        lines = ["1 0 8:1 / / rw - ext4 /dev/vda rw"]
        lines += [f"{number} 1 0:{number} / /sys/fs/bpf rw - {kind} none rw" for number, kind in enumerate(kinds, 2)]
        mounts.write_text("\n".join(lines), encoding="utf-8")
        return in_bpf_file_system(Path("/sys/fs/bpf/relayd"))

    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(module, "_MOUNTS", mounts)
    assert mounted("bpf")
    assert mounted("tmpfs", "bpf")
    assert not mounted("bpf", "tmpfs")
    assert not mounted()


def test_a_link_takes_the_place_of_what_is_none(pins: Pins) -> None:
    (pins.folder / "link_eth0").write_text("bpf-map", encoding="utf-8")
    assert links(pins) == set()
    pins.pin_link("eth0", -1)
    assert links(pins) == {"eth0"}


def test_a_look_at_the_folder_does_not_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "in_bpf_file_system", lambda _: True)
    pins = Pins(tmp_path / "relayd", "relay-1")
    pins.examine()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(UnavailableError, match=f"{tmp_path} cannot be written to"):
        pins.examine()
    pins.prepare()
    pins.examine()
