"""The lock of a control plane's database: what is said where there can be none, and where nobody may look."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from relayd.control_plane.errors import StoreUnusableError
from relayd.control_plane.examine import examine_api
from relayd.control_plane.store.lock import is_locked, locked
from relayd.settings import Settings


def test_a_file_system_without_locks_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    says = rf"^{tmp_path}/a\.db\.lock: cannot be locked: No locks available$"
    with pytest.raises(StoreUnusableError, match=says), locked(tmp_path / "a.db"):
        pass


def test_a_full_disk_does_not_keep_it_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with locked(tmp_path / "a.db"):
        assert is_locked(tmp_path / "a.db")
    assert not is_locked(tmp_path / "a.db")


def test_a_user_who_may_not_look_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "a.db"

    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    (line,) = examine_api(Settings.model_validate({"api": {"database": str(database)}}).api)
    assert line.startswith(f"warning  api.database: this user may not look whether a control plane serves {database}:")
    assert f"{database}.lock: Permission denied" in line
