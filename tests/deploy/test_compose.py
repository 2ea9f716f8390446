"""deploy/compose.yaml: accepted by Docker Compose, and every part fits to the next."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from relayd.settings import Settings, load
from tests.integration.programs import REPOSITORY

FOLDER = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RELAYS = [name for name in SERVICES if name.startswith("relay-")]
OURS = ["control-plane", *RELAYS]


def _compose() -> list[str] | None:
    """The command, as a plugin of Docker's or on its own."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@pytest.mark.skipif(_compose() is None, reason="needs Docker Compose (Debian: docker-compose)")
def test_compose_takes_it() -> None:
    command = _compose() or []
    done = subprocess.run(
        [*command, "-f", str(FOLDER / "compose.yaml"), "config", "-q"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What relayd makes of a service's environment; unknown keys are errors."""
    for key, value in SERVICES[name]["environment"].items():
        assert isinstance(value, str), f"{key}: a string in the environment, whatever YAML makes of it"
        monkeypatch.setenv(key, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value))
    return load()


@pytest.mark.parametrize("name", OURS)
def test_the_environment_is_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    service = SERVICES[name]
    secret = settings.api.token_file if name == "control-plane" else settings.source.token_file
    assert [f"/run/secrets/{one}" for one in service["secrets"]] == [str(secret)]
    assert settings.state.directory.as_posix() == service["volumes"][0].partition(":")[2]
    assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}


def test_relays_are_reached_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    control_plane = settings_of("control-plane", monkeypatch)
    (targets,) = yaml.safe_load((FOLDER / "prometheus" / "relays" / "compose.yml").read_text(encoding="utf-8"))
    for name, target in zip(RELAYS, targets["targets"], strict=True):
        with monkeypatch.context() as patch:
            settings = settings_of(name, patch)
        ports = (settings.relay.server_port, settings.relay.client_port)
        assert SERVICES[name]["ports"] == [f"{port}:{port}/udp" for port in ports]
        assert settings.relay.id == name
        assert settings.source.url == f"http://control-plane:{control_plane.api.bind.rpartition(':')[2]}"
        assert target == f"{name}:{settings.admin.bind.rpartition(':')[2]}"
        assert settings.drain.on_sigterm
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > settings.drain.limit_seconds


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source
        for secret in service.get("secrets", ()):
            assert COMPOSE["secrets"][secret]["file"].startswith("secrets/")
    assert "deploy/secrets/" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8")


def test_every_service_says_how_it_is() -> None:
    for name, service in SERVICES.items():
        # The image's own is that of a relay.
        assert "healthcheck" in service or name in RELAYS, name
        for other in service.get("depends_on", ()):
            assert service["depends_on"][other] == {"condition": "service_healthy"}
    assert SERVICES["relay-1"]["depends_on"].keys() == {"control-plane"}
