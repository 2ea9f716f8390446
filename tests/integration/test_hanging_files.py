"""A session file that nobody can read to its end: a FIFO, or one on a file system that is away."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.integration.commands import relayd, write_config
from tests.integration.config import new_session, replace_text
from tests.integration.conftest import StartRelay
from tests.integration.peers import VALID
from tests.integration.programs import REPOSITORY, Process
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import eventually

IN_PLACE_OF_A_DISK = """
import sys, threading
from relayd import files
from relayd.cli import main
from relayd.session_source import looks

def read_if_changed(path, seen):
    if path.with_name("away").exists():
        threading.Event().wait()
    return files.read_if_changed(path, seen)

looks.read_if_changed = read_if_changed
sys.exit(main())
"""


class OnADiskThatGoesAway(RelayProcess):
    """A relay for which all looks at its session file hang, for good, that begin while there is a file ``away``."""

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        python, _, _, *options = arguments
        program = [python, "-c", IN_PLACE_OF_A_DISK, *options]
        return subprocess.Popen(program, stdout=out, stderr=err, cwd=REPOSITORY, env=environment())


def test_a_relay_whose_session_file_hangs_says_so_and_can_be_helped_and_ended(tmp_path: Path) -> None:
    session = new_session("game")
    away = tmp_path / "away"
    away.touch()
    relay = OnADiskThatGoesAway(tmp_path, [session], ready=False)
    relay.allowed_errors = 1
    with relay:
        said = f"no sessions yet: {relay.sessions_path}: no answer within 10 s: is the file system it is on away?\n"
        eventually(lambda: relay.get("/readyz") == (503, said), "it is said")
        assert relay.metrics()["relayd_source_age_seconds",] >= 10
        assert len(relay.log_lines(event="session file refused, the table stays as it was")) == 1
        away.unlink()
        relay.process.send_signal(signal.SIGHUP)
        eventually(lambda: relay.get("/readyz") == (200, "ready\n"), "a look that does not hang finds the file")
        with relay.player(session) as player:
            assert player.ping_until(VALID)
    # And its process has ended, though a thread of it still hung.


def test_a_fifo_is_refused_and_a_file_in_its_place_is_read(tmp_path: Path) -> None:
    session = new_session("game")
    relay = RelayProcess(tmp_path, None, ready=False)
    relay.allowed_errors = 1
    os.mkfifo(relay.sessions_path)
    with relay:
        why = f"{relay.sessions_path}: cannot be read: it is a FIFO, and has to be a regular file"
        eventually(lambda: relay.get("/readyz") == (503, f"no sessions yet: {why}\n"), "it is refused")
        relay.write_sessions([session])
        eventually(lambda: relay.get("/readyz") == (200, "ready\n"), "the file is read")


@pytest.mark.parametrize("kind", ["FIFO", "directory"])
def test_check_says_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    config = write_config(tmp_path)
    path = tmp_path / "sessions.json"
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    done = relayd("check", "--config", str(config))
    assert done.returncode == 78
    assert f"{path}: cannot be read: it is a {kind}, and has to be a regular file" in done.stderr


def test_a_file_that_looks_as_it_was_is_read_when_it_was_changed(start_relay: StartRelay) -> None:
    """As `rsync --inplace --times` leaves it: size, time of modification and inode stay."""
    session = new_session("first")
    relay = start_relay([session])
    before = relay.sessions_path.stat()
    text = relay.sessions_path.read_bytes()
    with relay.sessions_path.open("r+b") as file:
        file.write(text.replace(b'"first"', b'"other"'))
    os.utime(relay.sessions_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    eventually(lambda: relay.get("/v1/sessions/other")[0] == 200, "it is read again")


def test_a_byte_order_mark_is_no_mistake(start_relay: StartRelay) -> None:
    relay = start_relay([])
    text = json.dumps({"sessions": [new_session("game").as_json()]})
    replace_text(relay.sessions_path, f"\N{ZERO WIDTH NO-BREAK SPACE}{text}")
    eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "it is read")
