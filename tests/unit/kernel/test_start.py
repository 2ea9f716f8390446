"""Where nobody wants a fast path, nothing about it may keep a relay from starting."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.core.engine import Engine
from relayd.core.table import Table
from relayd.forwarding.kernel.libbpf import LibraryMissingError
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.start import start_fast_path
from relayd.settings import Settings
from tests.support.kept import NothingKept

_NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a while")
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_folder_for_pins_that_one_may_not_look_into(mode: str, tmp_path: Path) -> None:
    """As a system makes /sys/fs/bpf: for root alone."""
    (tmp_path / "private").mkdir(mode=0o700)
    wanted = {"mode": mode, "pin_directory": str(tmp_path / "private" / "relayd")}
    settings = Settings.model_validate({"fast_path": wanted})
    engine = Engine(Table(settings.limits, lambda: 1))
    os.seteuid(_NOBODY)
    try:
        fast_path = start_fast_path(
            settings=settings, engine=engine, endpoints=[], later=lambda _function: None, kept=NothingKept()
        )
    finally:
        os.seteuid(0)
    assert fast_path is None


def _file(folder: Path) -> None:
    folder.write_text("no folder", encoding="utf-8")


def _circle(folder: Path) -> None:
    folder.symlink_to(folder)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("put", [_file, _circle])
@pytest.mark.parametrize("where", ["pins", "pins/relay-1"])
def test_something_else_in_the_place_of_the_folder(
    where: str, put: Callable[[Path], None], mode: str, tmp_path: Path
) -> None:
    place = tmp_path / where
    place.parent.mkdir(exist_ok=True)
    put(place)
    wanted = {"mode": mode, "pin_directory": str(tmp_path / "pins")}
    settings = Settings.model_validate({"fast_path": wanted, "relay": {"id": "relay-1"}})
    engine = Engine(Table(settings.limits, lambda: 1))
    fast_path = start_fast_path(
        settings=settings, engine=engine, endpoints=[], later=lambda _function: None, kept=NothingKept()
    )
    assert fast_path is None


@pytest.mark.parametrize("error", [PermissionError(1, "not permitted"), LibraryMissingError("no libbpf")])
def test_what_cannot_be_taken_away_is_said_and_keeps_nobody_from_starting(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(_pins: Pins) -> None:
        raise error

    monkeypatch.setattr(Pins, "remove", remove)
    settings = Settings.model_validate({"fast_path": {"mode": "off", "pin_directory": str(tmp_path)}})
    folder = Pins(tmp_path, settings.relay.id).folder
    folder.mkdir()
    (folder / "link_eth0").touch()
    engine = Engine(Table(settings.limits, lambda: 1))
    with capture_logs() as logs:
        fast_path = start_fast_path(
            settings=settings, engine=engine, endpoints=[], later=lambda _function: None, kept=NothingKept()
        )
    assert fast_path is None
    assert [(line["event"], line["why"]) for line in logs] == [
        ("pinned state of an earlier fast path cannot be removed", str(error))
    ]
