"""Where nobody wants a fast path, nothing about it may keep a relay from starting."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relayd.core.engine import Engine
from relayd.core.table import Table
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
