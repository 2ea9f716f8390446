"""Where a relay's admin socket is, and that the commands look for it where the relay makes it."""

import os
from pathlib import Path
from typing import Any

import pytest

from relayd.errors import UnavailableError
from relayd.http import socket_path
from relayd.http.socket_path import make_folder, path_to_listen_on, paths_to_ask
from relayd.settings import Settings

ETC = Path("/etc/relayd")
UNIT = {"RUNTIME_DIRECTORY": "/run/relayd"}


def settings(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate(sections)


@pytest.fixture(autouse=True)
def no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default state directory cannot be written to, as where somebody tries relayd out."""
    monkeypatch.setattr(socket_path, "_can_be_written", lambda _: False)
    monkeypatch.setattr(socket_path, "_TEMPORARY", tmp_path)


def test_one_that_is_named_is_it() -> None:
    named = settings(admin={"socket": "/srv/a.sock"}, state={"directory": "/srv/state"})
    assert path_to_listen_on(named, UNIT) == Path("/srv/a.sock")
    assert paths_to_ask(named, None) == [Path("/srv/a.sock")]


@pytest.mark.parametrize(
    ("directory", "config"),
    [
        ("/run/relayd", None),
        ("/run/relayd", ETC / "relayd.toml"),
        ("/run/relayd-paris", ETC / "paris.toml"),
    ],
)
@pytest.mark.parametrize("state", [{}, {"directory": "/srv/nothing-there"}])
def test_under_a_unit_it_is_in_the_units_folder(directory: str, config: Path | None, state: dict[str, str]) -> None:
    one = settings(state=state)
    listens = path_to_listen_on(one, {"RUNTIME_DIRECTORY": f"{directory}:/run/more"})
    assert listens == Path(directory) / "admin.sock"
    assert listens in paths_to_ask(one, config)


def test_a_unit_is_known_by_its_file_from_within_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_path, "DEFAULT_CONFIG", tmp_path / "relayd.toml")
    monkeypatch.chdir(tmp_path)
    assert paths_to_ask(settings(), Path("paris.toml"))[0] == Path("/run/relayd-paris/admin.sock")
    assert paths_to_ask(settings(), Path("relayd.toml"))[0] == Path("/run/relayd/admin.sock")


def test_no_other_units_relay_is_asked() -> None:
    paris = paths_to_ask(settings(), ETC / "paris.toml")
    assert Path("/run/relayd/admin.sock") not in paris
    assert not [path for path in paths_to_ask(settings(), Path("/home/me/paris.toml")) if path.is_relative_to("/run")]


def test_without_a_unit_it_is_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = settings(state={"directory": "/srv/state"})
    assert path_to_listen_on(one, {}) == path_to_listen_on(one, {}, keeps_state=False) == Path("/srv/state/admin.sock")
    assert paths_to_ask(one, None)[0] == Path("/srv/state/admin.sock")
    monkeypatch.setattr(socket_path, "_can_be_written", lambda _: True)
    assert path_to_listen_on(settings(), {}) == Path("/var/lib/relayd/admin.sock")
    assert Path("/var/lib/relayd/admin.sock") in paths_to_ask(settings(), None)


def test_somebody_without_rights_has_it_in_a_folder_of_their_own(tmp_path: Path) -> None:
    one = settings(relay={"server_port": 33000})
    listens = path_to_listen_on(one, {})
    assert listens == tmp_path / f"relayd-{os.geteuid()}" / "admin-33000.sock"
    assert listens not in paths_to_ask(one, None), "nobody made that folder yet"
    make_folder(listens, one)
    assert listens.parent.stat().st_mode & 0o777 == 0o700
    assert paths_to_ask(one, None)[-1] == listens


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    listens = path_to_listen_on(settings(), {})
    listens.parent.mkdir(mode=0o700)
    listens.parent.chmod(0o777)
    with pytest.raises(UnavailableError, match=r"is not this user's alone: remove it, or name a path in admin\.socket"):
        make_folder(listens, settings())
    assert listens not in paths_to_ask(settings(), None), "whoever answers there need not be the relay"


def test_other_folders_are_the_operators(tmp_path: Path) -> None:
    make_folder(tmp_path / "not-there" / "admin.sock", settings())
    assert not (tmp_path / "not-there").exists()
