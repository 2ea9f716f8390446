"""Which source the settings name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relayd.core.source_status import Load
from relayd.errors import ConfigurationError
from relayd.session_source import Source
from relayd.session_source.choose import source_from_settings
from relayd.session_source.control_plane.follow import ControlPlaneSource
from relayd.session_source.file import FileSource
from relayd.settings import Settings
from tests.support.links import FakeSessionTable


def source_of(folder: Path, **source: Any) -> Source:
    settings = Settings.model_validate({"source": source, "state": {"directory": folder}})

    async def make() -> Source:
        return source_from_settings(settings, FakeSessionTable(), lambda: Load(0, False))

    return asyncio.run(make())


def test_a_file(tmp_path: Path) -> None:
    assert isinstance(source_of(tmp_path, kind="file", path=tmp_path / "x.json"), FileSource)


def test_a_control_plane_that_takes_usage_and_is_asked_about_unknown_players(tmp_path: Path) -> None:
    source = source_of(tmp_path, kind="control_plane", url="http://127.0.0.1:1")
    assert isinstance(source, ControlPlaneSource)
    assert source.lookups is not None
    assert source.usage is not None


def test_the_embedded_one_is_for_another_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="relayd dev"):
        source_of(tmp_path, kind="embedded")


def test_a_key_or_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigurationError, match=r"source\.token_file"):
        source_of(tmp_path, kind="control_plane", url="http://127.0.0.1:1", token_file=nowhere)
    with pytest.raises(ConfigurationError, match=r"source\.ca_file"):
        source_of(tmp_path, kind="control_plane", url="https://127.0.0.1:1", ca_file=nowhere)
