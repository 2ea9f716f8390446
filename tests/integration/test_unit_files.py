"""The files in systemd/, as far as they can be judged without running them."""

import re
import shutil
import socket
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from bench.ports import free_port, free_ports
from relayd.settings import RelaySettings, load
from relayd.state import kept_copy
from tests.integration.commands import relayd
from tests.integration.programs import REPOSITORY

FOLDER = REPOSITORY / "systemd"
UNITS = ("relayd.service", "relayd@.service", "relayd-control-plane.service")
MOST_EXPOSED = 2.0


def directives(name: str) -> list[str]:
    """Lines that are neither comments nor empty, a continued one as one."""
    text = (FOLDER / name).read_text(encoding="utf-8").replace("\\\n", "")
    return [re.sub(r" +", " ", line) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)")
@pytest.mark.parametrize("name", UNITS)
def test_little_is_exposed(name: str) -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            f"--threshold={int(MOST_EXPOSED * 10)}",
            str(FOLDER / name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("name", UNITS)
def test_what_is_forbidden_is_explained(name: str) -> None:
    """Each line has its reason above it, or belongs to the line above."""
    hardening = (FOLDER / name).read_text(encoding="utf-8").partition("# ---")[2].partition("[Install]")[0]
    lines = hardening.strip().splitlines()[1:]
    belonging = ("DevicePolicy=", "SystemCall", "KeyringMode=")
    for above, line in pairwise(lines):
        assert line.startswith(("#", *belonging)) or above.startswith("#"), line


def test_one_of_several_relays_differs_by_its_names_alone() -> None:
    several = "\n".join(directives("relayd@.service"))
    # The default where there is one relay.
    several = several.replace("Environment=RELAYD_STATE__DIRECTORY=/var/lib/relayd-%i\n", "")
    for name in (" --config /etc/relayd/%i.toml", " %i", "-%i"):
        several = several.replace(name, "")
    assert several.splitlines() == directives("relayd.service")


def test_a_relay_that_may_not_ask_the_kernel_is_told_which_boot_it_is() -> None:
    lines = directives("relayd.service")
    assert "ProcSubset=pid" in lines
    assert f"Environment={kept_copy._BOOT_ID_VARIABLE}=%b" in lines


def test_the_buffers_asked_for_can_be_had() -> None:
    limits = dict(line.split(" = ") for line in directives("60-relayd.conf"))
    relay = RelaySettings()
    assert int(limits["net.core.rmem_max"]) >= relay.receive_buffer_bytes
    assert int(limits["net.core.wmem_max"]) >= relay.send_buffer_bytes


def test_what_the_installation_says_to_do_next_can_be_done(tmp_path: Path) -> None:
    """All of it but what a service manager does, in another folder, with the sample as it is."""
    target = (REPOSITORY / "Makefile").read_text(encoding="utf-8").partition("\ninstall-system:\n")[2]
    echoes = target.partition("\n\n")[0].partition("\t@echo")
    said = subprocess.run(
        ["sh", "-c", "echo" + echoes[2].replace("\t@", "")], capture_output=True, text=True, check=True
    ).stdout
    first, then = (line for line in said.splitlines() if line.startswith(("mkdir", "systemctl")))
    assert then.split(" && ")[-2:] == ["systemctl enable --now relayd", "relayd check"], "a relay that is up is checked"
    state = str(tmp_path / "state")
    for content in ('{"sessions": []}\n', '{"sessions": [ ]}\n'):  # at the first installation, and at an upgrade
        subprocess.run(["sh", "-c", first.replace("/var/lib/relayd", state)], check=True)
        sessions = Path(state) / "sessions.json"
        assert sessions.read_text(encoding="utf-8") == content
        sessions.write_text('{"sessions": [ ]}\n', encoding="utf-8")
    sample = (FOLDER / "relayd.toml").read_text(encoding="utf-8").replace("/var/lib/relayd", state)
    (tmp_path / "relayd.toml").write_text(sample, encoding="utf-8")
    server_port, client_port = free_ports(2)
    variables = {
        "RELAYD_RELAY__SERVER_PORT": str(server_port),
        "RELAYD_RELAY__CLIENT_PORT": str(client_port),
        "RELAYD_ADMIN__BIND": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
    }
    done = relayd("check", "--config", str(tmp_path / "relayd.toml"), variables=variables)
    assert (done.returncode, done.stderr) == (0, "")
    page = (REPOSITORY / "docs" / "systemd.md").read_text(encoding="utf-8")
    assert page.index(first) < page.index("systemctl enable --now relayd\nrelayd check\n")


def test_the_sample_configuration_can_be_used(tmp_path: Path) -> None:
    text = (FOLDER / "relayd.toml").read_text(encoding="utf-8")
    sample = tmp_path / "relayd.toml"
    sample.write_text(text, encoding="utf-8")
    assert load(sample).source.kind == "file"
    follows = re.sub(r'^(kind = "file"|path = .*)\n', "", text, flags=re.MULTILINE)
    sample.write_text(re.sub(r"^# (\[|\w+ = )", r"\1", follows, flags=re.MULTILINE), encoding="utf-8")
    assert load(sample).source.kind == "control_plane"
    assert load(sample).api.token_file == Path("/run/credentials/relayd-control-plane.service/api-token")
