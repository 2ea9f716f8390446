"""Where nobody wants a fast path, nothing about it may keep a relay from starting."""

import os
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
    fast_path = {"mode": mode, "pin_directory": str(tmp_path / "private" / "relayd")}
    settings = Settings.model_validate({"fast_path": fast_path})
    engine = Engine(Table(settings.limits, lambda: 1))
    os.seteuid(_NOBODY)
    try:
        assert start_fast_path(settings, engine, [], lambda _function: None, NothingKept()) is None
    finally:
        os.seteuid(0)
