"""Which way the sockets are served where the C part is not available, or not for as many sockets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import Sections, new_session, with_forwarder, write_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess
from tests.thread.compiled import needs_native

KEYS = new_session("game")
MANY = [f"127.0.0.{last}" for last in range(1, 34)]
"""With two ports each, more sockets than the thread takes."""
PYTHON_ALONE = "datagrams are forwarded by Python alone, which takes more of the processor"


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where relayd was installed with a compiler that fails."""
    folder = tmp_path_factory.mktemp("installation")
    source, installed = folder / "source", folder / "installed"
    shutil.copytree(REPOSITORY / "relayd", source / "relayd", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(installed), str(source)],
        env={**os.environ, "CC": "false"},
        check=True,
    )
    assert not list(installed.rglob("*.so"))
    return installed


def _play(relay: RelayProcess) -> None:
    with relay.host(KEYS) as host, relay.player(KEYS) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        for number in range(3):
            player.say(OPENS_CONNECTION + b"%d" % number)
            connection_id, heard = host.hear()
            assert heard == OPENS_CONNECTION + b"%d" % number
            host.say(connection_id, b"%d" % number)
            assert player.hear() == b"%d" % number


def _warnings(relay: RelayProcess) -> list[dict[str, Any]]:
    return [line for line in relay.log_lines(level="warning") if line["event"] == PYTHON_ALONE]


def _refused(folder: Path, overrides: Sections, home: Path = REPOSITORY) -> str:
    """Why `native` is not available."""
    config = write_config(folder, with_forwarder("native", {**overrides, "fast_path": {"mode": "off"}}))
    write_sessions(folder / "sessions.json", [KEYS])
    done = relayd("run", "--config", str(config), home=home)
    assert_one_clear_line(done, 69, 'relay.forwarder: "native" is not available: ')
    return done.stderr


def test_without_a_compiler_relayd_installs_and_forwards_all_the_same(without_compiler: Path, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, [KEYS], home=without_compiler) as relay:
        _play(relay)
        (warning,) = _warnings(relay)
        assert "its C part was not compiled: install a C compiler" in warning["why"]


def test_without_a_compiler_who_asks_for_no_more_than_python_is_not_warned(
    without_compiler: Path, tmp_path: Path
) -> None:
    with RelayProcess(tmp_path, [KEYS], with_forwarder("python"), home=without_compiler) as relay:
        _play(relay)
        assert _warnings(relay) == []


def test_without_a_compiler_who_asks_for_native_is_told_how_to_get_it(without_compiler: Path, tmp_path: Path) -> None:
    assert "install a C compiler and Python's headers" in _refused(tmp_path, {}, without_compiler)


@needs_native
def test_where_it_was_compiled_it_is_what_serves(start_relay: StartRelay) -> None:
    relay = start_relay([KEYS])
    _play(relay)
    assert _warnings(relay) == []
    tasks = Path(f"/proc/{relay.process.pid}/task").iterdir()
    assert "relayd-forward\n" in [task.joinpath("comm").read_text(encoding="ascii") for task in tasks]


@needs_native
def test_more_addresses_than_the_thread_takes_are_served_by_python(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay([KEYS], {"relay": {"bind": MANY}})
    _play(relay)
    (warning,) = _warnings(relay)
    assert warning["why"] == "more than 64 sockets"
    assert "more than 64 sockets" in _refused(tmp_path, {"relay": {"bind": MANY}})
