"""Every key from the file and from the environment, every mistake with the key's name."""

import codecs
from pathlib import Path
from typing import Any

import pytest

from relayd.errors import ConfigurationError
from relayd.settings import Settings, load, read_secret, split_address

# The keys others rely on, with values that are not the defaults. Values of the environment follow where they differ.
KEYS: list[tuple[str, str, Any, str]] = [
    ("relay.id", '"relay-7"', "relay-7", "relay-7"),
    ("relay.public_ip", '"203.0.113.7"', "203.0.113.7", "203.0.113.7"),
    ("relay.public_host", '"relay-7.example.net"', "relay-7.example.net", "relay-7.example.net"),
    ("relay.bind", '["127.0.0.1", "::1"]', ["127.0.0.1", "::1"], '["127.0.0.1", "::1"]'),
    ("relay.server_port", "4000", 4000, "4000"),
    ("relay.client_port", "4001", 4001, "4001"),
    ("relay.public_server_port", "40000", 40000, "40000"),
    ("relay.public_client_port", "40001", 40001, "40001"),
    ("relay.merge", '"off"', "off", "off"),
    ("source.kind", '"control_plane"', "control_plane", "control_plane"),
    ("source.path", '"/srv/games.json"', Path("/srv/games.json"), "/srv/games.json"),
    ("source.url", '"http://10.0.0.1:8080"', "http://10.0.0.1:8080", "http://10.0.0.1:8080"),
    ("source.token_file", '"/run/token"', Path("/run/token"), "/run/token"),
    ("source.poll_interval", "2.5", 2.5, "2.5"),
    ("admin.bind", '"127.0.0.1:1234"', "127.0.0.1:1234", "127.0.0.1:1234"),
    ("api.bind", '"[::1]:1235"', "[::1]:1235", "[::1]:1235"),
    ("api.token_file", '"/run/key"', Path("/run/key"), "/run/key"),
    ("api.database", '":memory:"', ":memory:", ":memory:"),
    ("fast_path.mode", '"off"', "off", "off"),
    ("fast_path.interfaces", '["eth0"]', ["eth0"], '["eth0"]'),
    ("limits.user_timeout", "20.0", 20.0, "20"),
    ("limits.host_timeout", "5.0", 5.0, "5"),
    ("limits.rebind_after", "0.0", 0.0, "0"),
    ("limits.pin_ip", "true", True, "true"),
    ("limits.connection_id_policy", '"stable"', "stable", "stable"),
    ("state.directory", '"/srv/state"', Path("/srv/state"), "/srv/state"),
    ("log.level", '"debug"', "debug", "debug"),
]


@pytest.fixture(autouse=True)
def _only_what_the_test_configures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.environ", {})
    monkeypatch.setattr("relayd.settings.DEFAULT_CONFIG", tmp_path / "absent.toml")
    monkeypatch.chdir(tmp_path)


def written(folder: Path, text: str) -> Path:
    path = folder / "relayd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    monkeypatch.setattr("os.environ", variables)


def as_toml(key: str, value: str) -> str:
    section, name = key.split(".")
    return f"[{section}]\n{name} = {value}\n"


def as_variable(key: str) -> str:
    return "RELAYD_" + key.upper().replace(".", "__")


def value_of(settings: Settings, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(settings, section), name)


def mistake(config: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(config)
    return str(caught.value)


@pytest.mark.parametrize(("key", "toml", "value", "_variable"), KEYS)
def test_a_key_from_the_file(tmp_path: Path, key: str, toml: str, value: object, _variable: str) -> None:
    assert value_of(load(written(tmp_path, as_toml(key, toml))), key) == value != value_of(Settings(), key)


def test_a_byte_order_mark_in_front_is_no_mistake(tmp_path: Path) -> None:
    """As some editors leave it."""
    config, secret = written(tmp_path, as_toml("relay.server_port", "4000")), tmp_path / "secret"
    secret.write_text("key")
    for path in (config, secret):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(config).relay.server_port == 4000
    assert read_secret(secret, "api.token_file") == "key"


@pytest.mark.parametrize(("key", "_toml", "value", "variable"), KEYS)
def test_a_key_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, key: str, _toml: str, value: object, variable: str
) -> None:
    environment(monkeypatch, **{as_variable(key): variable})
    assert value_of(load(), key) == value


def test_defaults_that_others_rely_on() -> None:
    settings = load()
    assert (settings.relay.server_port, settings.relay.client_port) == (32000, 32001)
    assert settings.relay.bind == ["0.0.0.0", "::"]
    assert (settings.source.kind, settings.source.poll_interval) == ("file", 1.0)
    assert (settings.admin.bind, settings.api.bind) == ("127.0.0.1:9464", "127.0.0.1:8080")
    assert settings.fast_path.mode == "auto"
    limits = settings.limits
    assert (limits.user_timeout, limits.host_timeout, limits.rebind_after) == (30, 10, 0.5)
    assert (limits.session_idle_timeout, limits.pin_ip, limits.connection_id_policy) == (300, False, "kcp")


def test_the_environment_overrides_one_key_and_leaves_its_section(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment(monkeypatch, RELAYD_RELAY__SERVER_PORT="4001")
    settings = load(written(tmp_path, "[relay]\nserver_port = 4000\nclient_port = 4002\n"))
    assert (settings.relay.server_port, settings.relay.client_port) == (4001, 4002)


def test_the_default_file_is_read_if_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("relayd.settings.DEFAULT_CONFIG", written(tmp_path, as_toml("relay.id", '"found"')))
    assert load().relay.id == "found"


@pytest.mark.parametrize("number", ["0", "65536", "-1", '"many"'])
def test_a_port_out_of_range_is_named_with_its_file(tmp_path: Path, number: str) -> None:
    config = written(tmp_path, as_toml("relay.server_port", number))
    assert mistake(config).startswith(f"{config}: relay.server_port: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relay.bind", "[]"),
        ("relay.public_ip", '"relay.example.net"'),
        ("relay.dscp", "64"),
        ("source.kind", '"files"'),
        ("source.poll_interval", "0"),
        ("source.shrink_hold", "-1"),
        ("admin.bind", '"9464"'),
        ("admin.bind", '"localhost:9464"'),
        ("fast_path.mode", '"on"'),
        ("limits.user_timeout", "0"),
        ("limits.host_timeout", "inf"),
        ("limits.connection_id_policy", '"never"'),
        ("log.level", '"loud"'),
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, key: str, value: str) -> None:
    text = mistake(written(tmp_path, as_toml(key, value)))
    assert key in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("relay.bind", '["0.0.0.0", "fe80::1"]', "a link-local address needs its interface, as fe80::1%eth0"),
        ("relay.bind", '["FE80:0::1"]', "a link-local address needs its interface, as fe80::1%eth0"),
        ("relay.bind", '["2001:db8::1%eth0"]', "only a link-local address has an interface"),
        ("admin.bind", '"[fe80::1]:9464"', "a link-local address does not do here"),
        ("api.bind", '"[fe80::1%eth0]:8080"', "a link-local address does not do here"),
    ],
)
def test_an_address_that_cannot_be_bound_to_as_it_is_says_why(tmp_path: Path, key: str, value: str, says: str) -> None:
    text = mistake(written(tmp_path, as_toml(key, value)))
    assert key in text
    assert says in text


def test_a_link_local_address_with_its_interface_is_taken(tmp_path: Path) -> None:
    config = written(tmp_path, as_toml("relay.bind", '["FE80::0:1%eth0", "169.254.0.1"]'))
    assert load(config).relay.bind == ["fe80::1%eth0", "169.254.0.1"]


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    assert "server_port and client_port must differ" in mistake(
        written(tmp_path, "[relay]\nserver_port = 4000\nclient_port = 4000\n")
    )


@pytest.mark.parametrize("ports", ["public_server_port = 5\npublic_client_port = 5", "public_server_port = 32001"])
def test_equal_public_ports_are_refused(tmp_path: Path, ports: str) -> None:
    text = mistake(written(tmp_path, f"[relay]\n{ports}\n"))
    assert "public_server_port and public_client_port must differ" in text


def test_an_unknown_key_is_named_with_the_one_meant(tmp_path: Path) -> None:
    text = mistake(written(tmp_path, as_toml("relay.sever_port", "4000")))
    assert text.endswith("relay.sever_port: unknown key; did you mean server_port?")


def test_an_unknown_section_is_named_with_the_one_meant(tmp_path: Path) -> None:
    assert mistake(written(tmp_path, "[relays]\nid = 1\n")).endswith("relays: unknown key; did you mean relay?")


@pytest.mark.parametrize("section", list(Settings.model_fields))
def test_no_section_takes_keys_it_does_not_know(tmp_path: Path, section: str) -> None:
    assert f"{section}.zzz: unknown key" in mistake(written(tmp_path, as_toml(f"{section}.zzz", "1")))


def test_every_mistake_gets_its_own_line(tmp_path: Path) -> None:
    text = mistake(written(tmp_path, "[relay]\nserver_port = 0\nclient_port = 0\n[log]\nlevel = 1\n"))
    assert len(text.splitlines()) == 3


def test_an_unknown_variable_is_named_with_the_one_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, RELAYD_RELAY__SEVER_PORT="4000")
    assert mistake() == (
        "environment variable RELAYD_RELAY__SEVER_PORT: unknown key; did you mean RELAYD_RELAY__SERVER_PORT?"
    )


@pytest.mark.parametrize("value", ["0", "many"])
def test_a_variable_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    environment(monkeypatch, RELAYD_RELAY__SERVER_PORT=value)
    assert mistake().startswith("environment variable RELAYD_RELAY__SERVER_PORT: relay.server_port: ")


def test_a_list_in_a_variable_that_is_no_json_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, RELAYD_RELAY__BIND="127.0.0.1")
    assert "write it as JSON" in mistake()


def test_variables_of_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, PATH="/bin", RELAY_ID="x", XRELAYD_ID="x")
    assert load() == Settings()


@pytest.mark.parametrize(
    "name",
    [
        "RELAYD_SERVICE_HOST",
        "RELAYD_SERVICE_PORT",
        "RELAYD_SERVICE_PORT_PLAYERS",
        "RELAYD_PORT",
        "RELAYD_PORT_32001_UDP",
        "RELAYD_PORT_32001_UDP_ADDR",
        "RELAYD_PORT_9464_TCP_PROTO",
    ],
)
def test_service_links_of_kubernetes_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    environment(monkeypatch, **{name: "udp://10.0.0.1:32001"})
    assert load() == Settings()


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    text = '[source]\npath = "a"\ntoken_file = "b"\n[api]\ntoken_file = "c"\ndatabase = "d"\n[state]\ndirectory = "e"\n'
    settings = load(written(folder, text))
    assert [settings.source.path, settings.source.token_file, settings.api.token_file, settings.state.directory] == [
        folder / name for name in "abce"
    ]
    assert settings.api.database == str(folder / "d")


def test_a_relative_file_makes_its_paths_absolute_all_the_same(tmp_path: Path) -> None:
    written(tmp_path, as_toml("source.path", '"games.json"'))
    assert load(Path("relayd.toml")).source.path == tmp_path / "games.json"


def test_paths_in_the_environment_are_relative_to_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    environment(monkeypatch, RELAYD_SOURCE__PATH="games.json")
    assert load(written(tmp_path / "etc", "")).source.path == Path("games.json")


@pytest.mark.parametrize(("content", "reason"), [(b"[relay", "is not valid TOML"), (b"\xff", "is not valid TOML")])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "relayd.toml"
    path.write_bytes(content)
    assert mistake(path).startswith(f"{path}: {reason}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert mistake(tmp_path / "none.toml") == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:65535", ("::1", 65535)), ("0.0.0.0:1", ("0.0.0.0", 1))],
)
def test_addresses_are_split(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "a:80", "::1:80"]
)
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address"):
        split_address(text)


def test_every_setting_is_explained() -> None:
    for section, settings_field in Settings.model_fields.items():
        for key, field in type(settings_field.default).model_fields.items():
            assert field.description, f"{section}.{key} has no description"


def test_what_was_set_can_be_told_from_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """`relayd dev` has other defaults, and must not take the usual ones for somebody's wish."""
    monkeypatch.setenv("RELAYD_API__BIND", "127.0.0.1:1")
    loaded = load(None)
    assert loaded.api.model_fields_set == {"bind"}
    assert loaded.limits.model_fields_set == set()


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    said = mistake(written(tmp_path, as_toml("source.url", '"https://relay:hunter2@control-plane.example.net"')))
    assert "source.url" in said
    assert "without a user name" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("section", ["admin", "api"])
@pytest.mark.parametrize("key", ["tls_certificate_file", "tls_key_file"])
def test_a_certificate_and_its_key_belong_together(tmp_path: Path, section: str, key: str) -> None:
    assert "name both, or neither" in mistake(written(tmp_path, as_toml(f"{section}.{key}", '"one.pem"')))
