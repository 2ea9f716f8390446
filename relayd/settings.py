"""Every setting, declared and explained once. From a TOML file, overridden by `RELAYD_SECTION__KEY` variables."""

import difflib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from relayd.core.limits import Limits
from relayd.core.relay_session import canonical_ip
from relayd.errors import ConfigurationError

DEFAULT_CONFIG = Path("/etc/relayd/relayd.toml")
ENV_PREFIX = "RELAYD_"

# Kubernetes sets these for Services whose names begin with "relayd"; they are not meant for this program. Names that
# end in _PORT could be a typing error as well: only their values tell.
_SERVICE_LINK_NAME = re.compile(r"RELAYD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp)://")


def variable_of(key: str) -> str:
    """The environment variable of a key: RELAYD_ADMIN__BIND of admin.bind."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` in its two parts.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host) != bracketed:
        raise ValueError("write it as address:port, for example 127.0.0.1:9464 or [::1]:9464")
    return canonical_ip(host.removeprefix("[").removesuffix("]")), int(port)


def _checked_address(text: str) -> str:
    if _is_link_local(split_address(text)[0]):
        raise ValueError("a link-local address does not do here: name another one of this host")
    return text


def _checked_local_ip(text: str) -> str:
    address = canonical_ip(text)
    if _is_link_local(address) != ("%" in address):
        raise ValueError(
            "only a link-local address has an interface: leave it out"
            if "%" in address
            else f"a link-local address needs its interface, as {address}%eth0"
        )
    return address


def _is_link_local(ip: str) -> bool:
    """Of IPv6 (RFC 4291, 2.5.6), which says nothing without the interface: each link has such addresses."""
    return ":" in ip and ipaddress.ip_address(ip).is_link_local


def _checked_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("write it as http://host:port or https://host:port, without a user name")
    return text.rstrip("/")


def _checked_network(text: str) -> str:
    return str(ipaddress.ip_network(text))


RELAY_ID_PATTERN = r"^[A-Za-z0-9._-]{1,128}$"

UdpPort = Annotated[int, Field(ge=1, le=65535)]
PublicUdpPort = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Connections = Annotated[int, Field(ge=1, le=65_536)]
IpAddress = Annotated[str, AfterValidator(canonical_ip)]
LocalIpAddress = Annotated[str, AfterValidator(_checked_local_ip)]
TcpAddress = Annotated[str, AfterValidator(_checked_address)]
IpNetwork = Annotated[str, AfterValidator(_checked_network)]
Url = Annotated[str, AfterValidator(_checked_url)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=253)]


class Section(BaseModel):
    """A table of the configuration file; keys it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_secret(path: Path, setting: str) -> str:
    """The one line of a secret's file; ``setting`` is the key that names it.

    Raises:
        ConfigurationError: the file cannot be read, or does not hold one line.
    """
    try:
        secret = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{setting}: {path}: not UTF-8 text") from None
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ConfigurationError(f"{setting}: {path}: must hold one line of plain ASCII, the secret alone")
    return secret


class HttpSection(Section):
    """What both HTTP servers have."""

    bind: TcpAddress
    tls_certificate_file: Path | None = Field(
        None, description="File with the certificate and those that vouch for it (PEM); with one, TLS is on."
    )
    tls_key_file: Path | None = Field(None, description="File with its key (PEM, without a password).")

    @property
    def url(self) -> str:
        """Where it is reached, as far as this host knows."""
        return f"{'http' if self.tls_certificate_file is None else 'https'}://{self.bind}"

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file belong together: name both, or neither")
        return self


class RelaySettings(Section):
    """[relay]: this relay and its two UDP ports."""

    id: str = Field("relay-1", pattern=RELAY_ID_PATTERN, description="Name of this relay at the control plane.")
    public_ip: IpAddress = Field("127.0.0.1", description="Address that sessions name as relay.ip.")
    public_host: str = Field(
        "localhost", min_length=1, max_length=253, description="Host name that sessions name as relay.host."
    )
    bind: list[LocalIpAddress] = Field(
        ["0.0.0.0", "::"],  # noqa: S104 - a relay is there to be reached
        min_length=1,
        description="Local addresses of both UDP ports; by default every one that the host has, or gets. An answer"
        " leaves from the address that was asked. A link-local one with its interface: fe80::1%eth0.",
    )
    server_port: UdpPort = Field(32000, description="UDP port for the hosts of games.")
    client_port: UdpPort = Field(32001, description="UDP port for players.")
    public_server_port: PublicUdpPort = Field(
        0, description="The port for hosts that sessions name, where a NAT or a container maps it; 0: server_port."
    )
    public_client_port: PublicUdpPort = Field(0, description="The same for players; 0: client_port.")
    receive_buffer_bytes: int = Field(4 << 20, ge=0, le=1 << 30, description="Receive buffer asked for, per socket.")
    send_buffer_bytes: int = Field(2 << 20, ge=0, le=1 << 30, description="Send buffer asked for, per socket.")
    forwarder: Literal["auto", "native", "python"] = Field(
        "auto",
        description='What serves the sockets: "native", a thread in C that does not wait for Python; "python", uvloop'
        ' alone; "auto", native where it was compiled.',
    )
    merge: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the thread in C lets datagrams to one peer leave as one message that the kernel cuts"
        ' (UDP_SEGMENT): "on"; "off"; "auto", not on Linux 7.0 to 7.1.4, which corrupt them. Never beside the fast'
        " path.",
    )
    attributes: dict[str, str] = Field(
        {}, description='Where this relay is, for filters: {city = "Paris", country = "France", …}.'
    )
    latitude: float | None = Field(None, ge=-90, le=90, description="Where this relay is, in degrees.")
    longitude: float | None = Field(None, ge=-180, le=180, description="Where this relay is, in degrees.")
    dscp: int = Field(0, ge=0, le=63, description="DSCP of all that is sent; 46 is EF. 0 marks nothing.")

    @property
    def named_ports(self) -> tuple[int, int]:
        """Server and client port as sessions name them: where hosts and players send to."""
        return self.public_server_port or self.server_port, self.public_client_port or self.client_port

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.server_port == self.client_port:
            raise ValueError("server_port and client_port must differ")
        if self.named_ports[0] == self.named_ports[1]:
            raise ValueError("public_server_port and public_client_port must differ")
        return self


class SourceSettings(Section):
    """[source]: where sessions come from."""

    kind: Literal["file", "control_plane", "embedded"] = Field(
        "file", description="file; control_plane (over HTTP); embedded (in this process, `relayd dev` only)."
    )
    path: Path = Field(Path("sessions.json"), description='kind = file: {"sessions": [RelaySession, …]}.')
    url: Url = Field("http://127.0.0.1:8080", description="kind = control_plane: its base URL.")
    token_file: Path | None = Field(None, description="kind = control_plane: file with the API key of this relay.")
    poll_interval: float = Field(1.0, gt=0, le=3600, description="Seconds between two looks at the source.")
    timeout: float = Field(
        10.0, gt=0, le=300, description="kind = control_plane: seconds for one request, from its start to its end."
    )
    ca_file: Path | None = Field(
        None,
        description="kind = control_plane, with https: file with the authorities that sign its certificate (PEM),"
        " instead of those the system trusts.",
    )
    shrink_hold: Seconds = Field(
        10.0,
        description="Seconds that a source which suddenly names less than half of the sessions must stay so before it"
        " is accepted. 0 accepts at once.",
    )

    @model_validator(mode="after")
    def _ca_is_looked_at(self) -> Self:
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file is of no use without https:// in source.url")
        return self

    def read_key(self) -> str | None:
        """The API key in `token_file`; None where no file is named.

        Raises:
            ConfigurationError: the file cannot be read or is empty.
        """
        return None if self.token_file is None else read_secret(self.token_file, "source.token_file")


class AdminSettings(HttpSection):
    """[admin]: metrics and health over TCP; live sessions and all that changes something over a Unix socket."""

    bind: TcpAddress = Field("127.0.0.1:9464", description="Address and port for metrics and health over HTTP.")
    socket: Path | None = Field(
        None,
        description="Unix socket for the commands and for /v1, for root and the relay's own user. None: admin.sock in"
        " the unit's folder in /run, or in state.directory where systemd made none.",
    )
    token_file: Path | None = Field(
        None, description="File with a token; with one, admin.bind serves /v1 too, to whoever sends it."
    )
    hosts: list[HostName] = Field(
        [],
        description="Names that admin.bind is asked by, where that is neither an address nor this host's own name,"
        " relay.public_host, or a name that no public DNS has.",
    )
    max_session_series: Count = Field(
        1000, description='Sessions with time series of their own; the rest is summed under session="other".'
    )
    max_connections: Connections = Field(
        256,
        description="HTTP connections at once, to admin.bind and to admin.socket each, of which one address may have"
        " half. For one more, the longest idle is closed.",
    )

    def read_token(self) -> str | None:
        """The token in `token_file`; None where no file is named.

        Raises:
            ConfigurationError: the file cannot be read or is empty.
        """
        return None if self.token_file is None else read_secret(self.token_file, "admin.token_file")


class ApiSettings(HttpSection):
    """[api]: the REST API of the control plane."""

    bind: TcpAddress = Field("127.0.0.1:8080", description="Address and port of the REST API.")
    token_file: Path | None = Field(None, description="File with one API key that has every scope, to begin with.")
    database: str = Field("relayd.sqlite3", description='SQLite database; ":memory:" keeps nothing over a restart.')
    max_connections: Connections = Field(
        4096,
        description="HTTP connections at once, of which each relay holds one. One address may have half of them, a"
        " trusted proxy all. For one more, the longest idle is closed.",
    )
    trusted_proxies: list[IpNetwork] = Field(
        [],
        description='Addresses and networks of proxies in front of the API, such as ["127.0.0.1", "10.0.0.0/8"]: the'
        " X-Forwarded-For of these is believed, and nobody else's.",
    )
    usage_kept_days: float = Field(
        90.0, ge=0, allow_inf_nan=False, description="Days that usage records are kept. 0 = for ever."
    )
    webhook_allow_private: bool = Field(
        False, description="Webhooks may go to loopback, link-local and private addresses too."
    )
    webhook_secret_file: Path | None = Field(
        None,
        description="File with the secret that signs webhooks. Without one, a secret made with the database does;"
        " `relayd control-plane webhook-secret` shows it.",
    )


class FastPathSettings(Section):
    """[fast_path]: forwarding in the kernel."""

    mode: Literal["auto", "off", "require"] = Field(
        "auto", description="auto: where it is available; off; require: end with status 69 where it is not."
    )
    interfaces: list[str] = Field(
        [],
        description='Network interfaces it is put on, such as ["eth0"]: all that players and hosts come by; "lo" for'
        " those on this machine. None: off.",
    )
    pin_directory: Path = Field(
        Path("/sys/fs/bpf/relayd"),
        description="Folder in a BPF file system where program and maps outlive the process, under relay.id.",
    )
    max_bound_users: int = Field(
        131_072, ge=1, le=4_000_000, description="Users bound that it has room for; the rest is served by the sockets."
    )
    max_authorized_users: int = Field(
        1_048_576,
        ge=1,
        le=100_000_000,
        description="Users authorized that it has room for; the rest joins as strangers do.",
    )
    unknown_per_second: Count = Field(
        2000, description="Datagrams with unknown tokens let up to the sockets a second; the rest is dropped before."
    )
    unknown_per_source_per_second: Count = Field(
        50, description="The same from one IPv4 address or one IPv6 /64 network."
    )
    known_per_second: PositiveCount = Field(
        20_000,
        description="Datagrams with right tokens from where nobody is bound by them let up to the sockets a second.",
    )
    known_per_user_per_second: PositiveCount = Field(100, description="The same with the tokens of one user.")


class DrainSettings(Section):
    """[drain]: leaving without ending games."""

    on_sigterm: bool = Field(
        False,
        description="SIGTERM drains, and ends the relay once nobody plays any more; a second SIGTERM ends it at once.",
    )
    limit_seconds: Seconds = Field(
        3600.0,
        description="Longest wait for games to end, on SIGTERM and of `relayd drain --wait`. 0 = no limit.",
    )


class StateSettings(Section):
    """[state]: what outlives a restart."""

    directory: Path = Field(
        Path("/var/lib/relayd"),
        description="Directory for what outlives a restart. Under the units bindings and counts are in the unit's"
        " folder in /run, and a copy of them here.",
    )


class UsageSettings(Section):
    """[usage]: records of what each session forwarded."""

    interval: Seconds = Field(
        60.0, description="Seconds between two records of a session that forwards something. 0 = no usage records."
    )


class LogSettings(Section):
    """[log]: lines on standard error. None of them is waited for: what nobody reads is lost, and counted."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="console, json, or auto: console on a terminal and json elsewhere."
    )


class Settings(BaseSettings):
    """All of it. Build it with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    relay: RelaySettings = RelaySettings()
    source: SourceSettings = SourceSettings()
    admin: AdminSettings = AdminSettings()
    api: ApiSettings = ApiSettings()
    fast_path: FastPathSettings = FastPathSettings()
    limits: Limits = Limits()
    drain: DrainSettings = DrainSettings()
    state: StateSettings = StateSettings()
    usage: UsageSettings = UsageSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file; there are no other sources."""
        return env_settings, init_settings


def load(config: Path | None = None) -> Settings:
    """Reads the configuration: the file named, else the default one if it is there, and the environment.

    Paths in the file are relative to the file, paths in the environment to the working directory.

    Raises:
        ConfigurationError: a file that cannot be read, a key unknown or out of range; says which.
    """
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    values = _read(config) if config is not None else {}
    unknown = list(_unknown_variables(os.environ))
    if unknown:
        raise ConfigurationError("\n".join(unknown))
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(details, config) for details in error.errors())) from None
    except SettingsError as error:
        raise ConfigurationError("\n".join(_not_json(os.environ)) or f"environment: {error}") from None


def _read(config: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{config}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: is not valid TOML: {error}") from None
    for section, key in (
        ("source", "path"),
        ("source", "token_file"),
        ("source", "ca_file"),
        ("admin", "socket"),
        ("admin", "token_file"),
        ("admin", "tls_certificate_file"),
        ("admin", "tls_key_file"),
        ("api", "token_file"),
        ("api", "tls_certificate_file"),
        ("api", "tls_key_file"),
        ("api", "database"),
        ("api", "webhook_secret_file"),
        ("state", "directory"),
    ):
        table = values.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key] != ":memory:":
            table[key] = str(config.absolute().parent / table[key])
    return values


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable with relayd's prefix that names no setting: a typing error would go unseen."""
    known = {
        variable_of(f"{section}.{key}")
        for section, field in Settings.model_fields.items()
        for key in field.default.__class__.model_fields
    }
    for name in sorted(environment):
        upper = name.upper()
        service_link = _SERVICE_LINK_NAME.match(upper) or _SERVICE_LINK_VALUE.match(environment[name])
        if upper.startswith(ENV_PREFIX) and upper not in known and not service_link:
            yield f"environment variable {name}: unknown key{_did_you_mean(upper, known)}"


def _not_json(environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that should hold a list or a table, and does not."""
    for section, field in Settings.model_fields.items():
        for key, setting in field.default.__class__.model_fields.items():
            name = variable_of(f"{section}.{key}")
            if isinstance(setting.default, list | dict) and name in environment:
                try:
                    json.loads(environment[name])
                except ValueError:
                    example = json.dumps(setting.default or ["…"])
                    yield f"environment variable {name}: write it as JSON, for example '{example}'"


def _explain(error: ErrorDetails, config: Path | None) -> str:
    """One line for one mistake: where it stands, the key, what is wrong."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    variable = variable_of(".".join(location[:2]))
    in_environment = any(name.upper() == variable for name in os.environ)
    origin = f"environment variable {variable}: " if in_environment else f"{config}: " if config else ""
    if error["type"] == "extra_forbidden":
        section = Settings.model_fields.get(location[0])
        known = set(section.default.__class__.model_fields if section else Settings.model_fields)
        return f"{origin}{key}: unknown key{_did_you_mean(location[-1], known)}"
    given = error["input"]
    # What stands before an @ in a URL may be a password.
    shown = f" (got {given!r})" if isinstance(given, str | int | float) and "@" not in str(given) else ""
    reason = error["msg"].removeprefix("Value error, ")
    return f"{origin}{key}: {reason[:1].lower()}{reason[1:]}{shown}"


def _did_you_mean(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
