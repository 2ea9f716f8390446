"""deploy/Dockerfile, as far as it can be judged without building it."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.integration.config import new_session
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess, environment

FOLDER = REPOSITORY / "deploy"


def instructions() -> list[str]:
    """One line each."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        source
        for line in instructions()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert sorted(copied) == sorted(let_in)
    for source in copied:
        assert (REPOSITORY / source).exists()
    # What is built on this machine is not for the image.
    assert any(fnmatch("relayd/forwarding/thread/_forwarder.so", line.removeprefix("**/")) for line in lines[1:])


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="needs apt-cache (Debian)")
def test_what_is_installed_is_in_debian() -> None:
    packages = {
        name
        for line in instructions()
        for names in re.findall(r"apt-get install -y --no-install-recommends ([\w. +-]+?) &&", line)
        for name in names.split()
    }
    assert {"libbpf1", "python3", "gcc"} <= packages
    known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    assert packages <= set(known)


def test_it_runs_as_somebody_who_may_do_nothing() -> None:
    lines = instructions()
    (user,) = (line.split()[1] for line in lines if line.startswith("USER "))
    assert user == "10001:10001"
    assert lines.index(f"USER {user}") > max(number for number, line in enumerate(lines) if line.startswith("RUN "))
    (capabilities,) = re.findall(r"setcap (\S+) ", "\n".join(lines))
    assert capabilities == "cap_bpf,cap_net_admin,cap_perfmon=p"


def test_the_health_check_says_whether_a_relay_answers(tmp_path: Path) -> None:
    (check,) = (line for line in instructions() if line.startswith("HEALTHCHECK "))
    _, option, code = json.loads(check.partition(" CMD ")[2])

    def healthy(relay: RelayProcess) -> bool:
        variables = {**environment(), "RELAYD_STATE__DIRECTORY": str(tmp_path / "state")}
        for port in ("server_port", "client_port"):
            variables[f"RELAYD_RELAY__{port.upper()}"] = str(relay.settings["relay"][port])
        done = subprocess.run(
            [sys.executable, option, code], env=variables, cwd=REPOSITORY, capture_output=True, check=False
        )
        return done.returncode == 0

    with RelayProcess(tmp_path, [new_session("healthy")]) as relay:
        assert healthy(relay)
    assert not healthy(relay)
