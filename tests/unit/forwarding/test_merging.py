"""On which kernels datagrams are merged, and what `relayd check` says of it."""

import os
from types import SimpleNamespace
from typing import Literal

import pytest

from relayd.forwarding.merging import corrupts, examine_merging, merges
from relayd.settings import RelaySettings

Mode = Literal["auto", "on", "off"]


@pytest.mark.parametrize(
    ("release", "does"),
    [
        ("6.1.0-40-amd64", False),
        ("6.19.14", False),
        ("7.0.0-rc1", True),
        ("7.0-generic", True),
        ("7.0.12-1-amd64", True),
        ("7.1.0", True),
        ("7.1.4-arch1-1", True),
        ("7.1.5", False),
        ("7.2.0", False),
        ("8.0.1", False),
        ("unreadable", False),
    ],
)
def test_which_kernels_corrupt_merged_datagrams(release: str, does: bool) -> None:
    assert corrupts(release) is does


@pytest.mark.parametrize(
    ("mode", "release", "merged", "says"),
    [
        ("auto", "6.1.0", True, "ok       datagrams to one peer may leave merged"),
        ("auto", "7.1.4", False, "ok       datagrams leave one by one: Linux 7.1.4 corrupts merged ones"),
        ("on", "6.1.0", True, "ok       datagrams to one peer may leave merged"),
        ("on", "7.1.4", True, 'warning  relay.merge is "on", and Linux 7.1.4 corrupts merged datagrams'),
        ("off", "6.1.0", False, 'ok       datagrams leave one by one: relay.merge is "off"'),
        ("off", "7.1.4", False, 'ok       datagrams leave one by one: relay.merge is "off"'),
    ],
)
def test_what_is_done_and_said(
    mode: Mode, release: str, merged: bool, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    assert merges(mode) is merged
    (line,) = examine_merging(RelaySettings(merge=mode))
    assert line.startswith(says)


def test_python_alone_never_merges() -> None:
    assert examine_merging(RelaySettings(forwarder="python")) == []
