"""A Unix socket for its owner alone: how it is made, what stands in its way, and whose file goes at the end."""

import os
import socket
import stat
from pathlib import Path

import pytest

from relayd.errors import ConfigurationError, UnavailableError
from relayd.http.unix_socket import NoPlaceError, UnixListener, check_length, remove_if_dead

SETTING = "admin.socket"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "admin.sock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def left_by_a_dead_process(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


def test_it_is_for_its_owner_alone_from_the_first_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    class Watched(socket.socket):
        def bind(self, address: object, /) -> None:
            super().bind(address)  # type: ignore[arg-type]
            modes.append(mode(path))

    monkeypatch.setattr(socket, "socket", Watched)
    before = os.umask(0)
    try:
        one = UnixListener(path, SETTING)
        assert os.umask(0) == 0, "of all else that the process makes, it is what it was"
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert mode(path) == 0o600
    assert not one.socket.getblocking()
    one.close()
    assert not path.exists()


def test_the_socket_of_a_dead_process_is_replaced(path: Path) -> None:
    left_by_a_dead_process(path)
    one = UnixListener(path, SETTING)
    assert answers(path)
    one.close()


def test_that_of_a_living_one_is_left_alone(path: Path) -> None:
    first = UnixListener(path, SETTING)
    with pytest.raises(
        UnavailableError, match=rf"^Unix socket {path} \(admin\.socket\) is held by .*ss -lxp"
    ) as caught:
        UnixListener(path, SETTING)
    assert "\n" not in str(caught.value)
    assert answers(path)
    first.close()


def test_one_whose_queue_is_full_lives(path: Path) -> None:
    path.parent.mkdir()
    waiting = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                client.connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(UnavailableError, match="is held by"):
            UnixListener(path, SETTING)
    for client in waiting:
        client.close()


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="a file is there; remove it, or name another path in admin"):
        UnixListener(path, SETTING)
    assert path.read_text() == "precious"


def test_where_none_can_be_made_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be made: File exists; name another path in admin"):
        UnixListener(tmp_path / "file" / "admin.sock", SETTING)


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False), (300, False)])
def test_a_path_as_long_as_a_socket_may_have(tmp_path: Path, length: int, fits: bool) -> None:
    path = tmp_path / ("a" * min(200, length - len(str(tmp_path)) - 1))
    while len(str(path)) < length:
        path = path / ("b" * (length - len(str(path)) - 1))
    assert len(str(path)) == length
    if fits:
        check_length(path, SETTING)
        UnixListener(path, SETTING).close()
        return
    with pytest.raises(ConfigurationError, match=rf"^admin\.socket: /.* has {length} bytes, and .* 107 at most"):
        check_length(path, SETTING)
    with pytest.raises(NoPlaceError, match="cannot be made: AF_UNIX path too long; name another path in admin"):
        UnixListener(path, SETTING)


def test_the_file_of_another_is_not_removed(path: Path) -> None:
    first = UnixListener(path, SETTING)
    path.unlink()
    second = UnixListener(path, SETTING)
    first.close()
    assert answers(path)
    second.close()


def test_a_successor_goes_on_with_what_waits(path: Path) -> None:
    first = UnixListener(path, SETTING)
    kept = first.socket.dup()
    first.close(handed_on=True)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        second = UnixListener(path, SETTING, kept)
        taken, _ = second.socket.accept()
        taken.close()
    second.close()
    assert not path.exists()


def test_a_successor_whose_file_was_removed_listens_anew(path: Path) -> None:
    first = UnixListener(path, SETTING)
    kept = first.socket.dup()
    first.close()
    second = UnixListener(path, SETTING, kept)
    assert kept.fileno() == -1
    assert answers(path)
    second.close()


def test_only_dead_ones_are_removed(tmp_path: Path) -> None:
    dead, living, file = tmp_path / "dead", tmp_path / "living", tmp_path / "file"
    left_by_a_dead_process(dead)
    one = UnixListener(living, SETTING)
    file.write_text("")
    for path in (dead, living, file, tmp_path / "none"):
        remove_if_dead(path)
    assert sorted(tmp_path.iterdir()) == [file, living]
    one.close()
