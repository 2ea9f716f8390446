"""Both ways to ask a relay: what is opened, and what becomes of it where one of them cannot be."""

import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from relayd.admin import listeners
from relayd.admin.listeners import AdminFiles, AdminListeners
from relayd.errors import ConfigurationError, UnavailableError
from relayd.http import socket_path
from relayd.http.unix_socket import UnixListener
from relayd.settings import Settings
from tests.support import local_http

NO_FILES = AdminFiles(None, None)


@pytest.fixture(autouse=True)
def tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is opened in the place of a TCP port; folders that anybody may make are made here."""
    folder = tmp_path / "tcp"
    folder.mkdir()
    monkeypatch.setattr(listeners, "listen", lambda *_: local_http.listener(folder))
    monkeypatch.setattr(socket_path, "_TEMPORARY", tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    return folder


@pytest.fixture
def no_place(tmp_path: Path) -> Path:
    """Where no socket can be made."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "admin.sock"


def opened(path: Path, **admin: Any) -> AdminListeners:
    return AdminListeners(Settings.model_validate({"admin": admin}), path, NO_FILES, None)


def test_both_are_served_and_closed(tmp_path: Path) -> None:
    one = opened(tmp_path / "admin.sock")
    assert one.socket_path == tmp_path / "admin.sock"
    assert len(one.servers(FastAPI())) == 2
    assert len(one.for_successor) == 1
    one.close()
    assert not (tmp_path / "admin.sock").exists()


def test_games_go_on_where_the_state_directory_cannot_be_written_to(no_place: Path, tmp_path: Path) -> None:
    with capture_logs() as logs:
        one = opened(no_place)
    assert one.socket_path == tmp_path / "tmp" / f"relayd-{os.geteuid()}" / "admin-32000.sock"
    assert one.socket_path.is_socket()
    assert [str(no_place) in line["why"] for line in logs] == [True]
    one.close()


def test_games_go_on_where_the_state_directory_has_a_long_name(tmp_path: Path) -> None:
    with capture_logs() as logs:
        one = opened(tmp_path / ("a" * 120) / "admin.sock")
    assert one.socket_path is not None and one.socket_path.is_socket()
    assert ["path too long" in line["why"] for line in logs] == [True]
    one.close()


def test_games_go_on_where_there_is_no_place_at_all(no_place: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"relayd-{os.geteuid()}").write_text("")
    with capture_logs() as logs:
        one = opened(no_place)
    assert one.socket_path is None
    assert one.for_successor == []
    assert len(one.servers(FastAPI())) == 1
    assert "admin.token_file" in logs[-1]["event"]
    one.close()


def test_a_path_that_was_named_has_to_be_it(no_place: Path, tcp: Path) -> None:
    with pytest.raises(UnavailableError, match=str(no_place)):
        opened(no_place, socket=no_place)
    (tcp / local_http.NAME).unlink()
    opened(no_place.parent.with_name("admin.sock")).close()  # what was opened first was closed again


def test_a_second_relay_at_the_same_place_has_its_own_by_its_port(tmp_path: Path) -> None:
    other = UnixListener(tmp_path / "admin.sock", "admin.socket")
    with capture_logs() as logs:
        one = opened(tmp_path / "admin.sock")
    assert one.socket_path == tmp_path / "tmp" / f"relayd-{os.geteuid()}" / "admin-32000.sock"
    assert ["is held by a process that runs" in line["why"] for line in logs] == [True]
    one.close()
    assert other.path.is_socket(), "that is still the other's"
    other.close()


def test_the_place_of_a_relay_that_runs_is_not_passed_by_where_it_is_named(tmp_path: Path) -> None:
    other = UnixListener(tmp_path / "admin.sock", "admin.socket")
    with pytest.raises(UnavailableError, match="is held by a process that runs"):
        opened(tmp_path / "admin.sock", socket=tmp_path / "admin.sock")
    other.close()


def test_what_the_settings_name_is_read_before_anything_is_opened(tmp_path: Path) -> None:
    def read(**admin: Any) -> AdminFiles:
        return AdminFiles.read(Settings.model_validate({"admin": admin}))

    token = tmp_path / "token"
    for content in ("", "two\nlines\n"):
        token.write_text(content)
        with pytest.raises(ConfigurationError, match=r"admin\.token_file"):
            read(token_file=token)
    token.write_text("secret\n")
    assert read(token_file=token) == AdminFiles(None, "secret")
    with pytest.raises(ConfigurationError, match="107 at most"):
        read(socket=tmp_path / ("a" * 108))
