"""deploy/kubernetes/: valid by the schema of Kubernetes, and every part fits to the next."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relayd.settings import Settings, load
from tests.integration.programs import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
NODE_IP = "192.0.2.7"
NODE_NAME = "node-1.example.net"
FIELDS = {"status.hostIP": NODE_IP, "spec.nodeName": NODE_NAME}

Object = dict[str, Any]


def objects(*files: str) -> list[Object]:
    return [
        found for name in files for found in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")) if found
    ]


KUSTOMIZATION: Object = objects("kustomization.yaml")[0]
OBJECTS = objects(*KUSTOMIZATION["resources"])


def the(kind: str) -> Object:
    (found,) = (one for one in OBJECTS if one["kind"] == kind)
    return found


def pod_of(kind: str) -> Object:
    pod: Object = the(kind)["spec"]["template"]["spec"]
    return pod


def settings_of(pod: Object, monkeypatch: pytest.MonkeyPatch, config: Path | None = None) -> Settings:
    """What relayd makes of environment and configuration; unknown keys are errors."""
    values: dict[str, str] = {}
    for variable in pod["containers"][0]["env"]:
        if "valueFrom" in variable:
            value = FIELDS[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            value = variable["value"].replace("$(NODE_IP)", values.get("NODE_IP", "undefined"))
        values[variable["name"]] = value
        monkeypatch.setenv(variable["name"], value)
    return load(config)


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    config = tmp_path / "relayd.toml"
    config.write_text(the("ConfigMap")["data"]["relayd.toml"], encoding="utf-8")
    return settings_of(pod_of("DaemonSet"), monkeypatch, config)


def test_the_schema_of_kubernetes_takes_it() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (PyPI)")
    for one in OBJECTS:
        validator.validate(one, validator.latest_version(), strict=True)


def test_a_relay_is_configured_by_its_node(relay: Settings) -> None:
    assert (relay.relay.id, relay.relay.public_ip, relay.relay.public_host) == (NODE_NAME, NODE_IP, NODE_IP)
    assert relay.admin.bind == f"{NODE_IP}:9464"
    service = the("Service")
    assert relay.source.url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


def test_a_relay_has_what_the_fast_path_needs(relay: Settings) -> None:
    (container,) = pod_of("DaemonSet")["containers"]
    assert relay.fast_path.interfaces
    assert relay.fast_path.mode == "auto"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]}
    assert container["securityContext"]["allowPrivilegeEscalation"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["bpf"] == str(relay.fast_path.pin_directory)
    assert mounts["state"] == str(relay.state.directory)
    (first,) = pod_of("DaemonSet")["initContainers"]
    assert set(first["command"][2:]) == {mounts["bpf"], mounts["state"]}


def test_games_may_end_before_a_relay_does(relay: Settings) -> None:
    assert relay.drain.on_sigterm
    assert pod_of("DaemonSet")["terminationGracePeriodSeconds"] > relay.drain.limit_seconds > 0
    (container,) = pod_of("DaemonSet")["containers"]
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] < 10


def test_ports_are_those_of_the_settings(relay: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = pod_of("DaemonSet")["containers"]
    ports = {port["name"]: (port["containerPort"], port.get("protocol", "TCP")) for port in container["ports"]}
    admin_port = int(relay.admin.bind.rpartition(":")[2])
    assert ports == {
        "server": (relay.relay.server_port, "UDP"),
        "client": (relay.relay.client_port, "UDP"),
        "metrics": (admin_port, "TCP"),
    }
    annotations = the("DaemonSet")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(admin_port)
    (monitor,) = objects("podmonitor.yaml")
    assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
    assert monitor["spec"]["selector"] == the("DaemonSet")["spec"]["selector"]
    (api,) = pod_of("Deployment")["containers"]
    control_plane = settings_of(pod_of("Deployment"), monkeypatch)
    assert api["ports"][0]["containerPort"] == int(control_plane.api.bind.rpartition(":")[2])


@pytest.mark.parametrize("kind", ["DaemonSet", "Deployment"])
def test_probes_ask_what_there_is(kind: str) -> None:
    (container,) = pod_of(kind)["containers"]
    names = [port["name"] for port in container["ports"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in names
    assert the(kind)["spec"]["selector"]["matchLabels"] == the(kind)["spec"]["template"]["metadata"]["labels"]


def test_secrets_are_those_that_readme_has_made(relay: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (REPOSITORY / "deploy" / "README.md").read_text(encoding="utf-8")
    control_plane = settings_of(pod_of("Deployment"), monkeypatch)
    for kind, file in (("DaemonSet", relay.source.token_file), ("Deployment", control_plane.api.token_file)):
        assert file is not None
        pod = pod_of(kind)
        (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "secrets")
        (volume,) = (one for one in pod["volumes"] if one["name"] == "secrets")
        assert str(file.parent) == mount["mountPath"]
        assert f"create secret generic {volume['secret']['secretName']} --from-file={file.name}=" in readme
