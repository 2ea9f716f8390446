"""`relayd check`: what is wrong with the configuration and the host, a line each, before players find out."""

import ipaddress
import os
import tempfile
import time
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path

import httpx
import typer

from relayd.admin.listeners import AdminFiles
from relayd.client.admin import AdminClient
from relayd.commands.options import Config
from relayd.control_plane.examine import examine_api
from relayd.core.desired import Snapshot
from relayd.core.session_file import SessionFileError, read_sessions
from relayd.errors import ConfigurationError, FatalError, RefusedError, UnavailableError
from relayd.event_loop.run import run_loop
from relayd.event_loop.threads import within
from relayd.files import read
from relayd.forwarding.kernel.examine import examine_fast_path
from relayd.forwarding.merging import examine_merging
from relayd.forwarding.named_addresses import examine_addresses
from relayd.forwarding.sockets import open_sockets
from relayd.http.socket_path import path_of_this_user, path_to_listen_on
from relayd.http.tcp import listen
from relayd.http.tls import signed_by
from relayd.http.unix_socket import why_unreachable
from relayd.session_source.looks import HUNG, LIMIT_SECONDS
from relayd.settings import RelaySettings, Settings, load

_Findings = list[str]
_CLOCKS_APART_SECONDS = 5


class _Running(Enum):
    """Which relay answers on this host."""

    NONE = auto()
    THIS_RELAY = auto()
    ONE_THAT_DOES_NOT_SAY = auto()


def check(config: Config = None) -> None:
    """Looks at everything; the exit status says how bad it is."""
    raise typer.Exit(check_host(load(config), config))


def check_host(settings: Settings, config: Path | None = None) -> int:
    """Prints ``ok``, ``warning`` or ``wrong`` and what was found for each thing a relay needs, or a control plane.

    Args:
        settings: the configuration.
        config: the file it was read from; None for the default one.

    Returns:
        The exit status: 0, or that of the worst finding; a bad configuration counts as worse than a taken port.
    """
    status = 0
    examine_source = _control_plane if settings.source.kind == "control_plane" else _file
    running = _who_runs(settings, config)
    examine_relay = (
        partial(_fast_path, running, config),
        _merging,
        examine_source,
        _state,
        partial(_ports, running),
        _addresses,
        partial(_admin, running),
    )
    given = settings.model_fields_set
    for examine in (*(() if _is_control_plane_alone(given) else examine_relay), *((_api,) if "api" in given else ())):
        try:
            for line in examine(settings):
                typer.echo(line)
        except FatalError as error:
            for line in str(error).splitlines():
                typer.echo(f"wrong    {line}", err=True)
            status = max(status, error.exit_code)
    return status


def _fast_path(running: _Running, config: Path | None, settings: Settings) -> _Findings:
    findings = examine_fast_path(settings, config)
    if running is not _Running.THIS_RELAY:
        return findings
    try:
        kernel = AdminClient(settings, config).status().fast_path
    except FatalError:
        return findings
    # Only the relay that runs knows what became of what the kernel program sent.
    views = kernel.interfaces if kernel is not None else ()
    said = "\n".join(findings)
    return findings + [
        f"warning  {one.problem}; {one.way_out}" for one in views if one.problem and one.problem not in said
    ]


def _merging(settings: Settings) -> _Findings:
    return examine_merging(settings.relay)


def _control_plane(settings: Settings) -> _Findings:
    source = settings.source
    key = source.read_key()
    trust = None if source.ca_file is None else signed_by(source.ca_file, "source.ca_file")
    url = f"{source.url}/v1/relays/nodes/{settings.relay.id}/sessions?limit=1"
    try:
        headers = {"authorization": f"token {key}"} if key else {}
        answer = httpx.get(url, headers=headers, timeout=5.0, verify=trust or True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"source.url: {source.url} does not answer: {error}") from None
    if answer.status_code in (401, 403):
        wanted = "refuses the key; make one with keys add --node" if key else "wants a key; name its file"
        raise ConfigurationError(f"source.token_file: {source.url} {wanted}")
    if answer.status_code not in (200, 404) or not answer.headers.get("content-type", "").startswith(
        "application/json"
    ):
        raise UnavailableError(f"source.url: {source.url} is no control plane: it answers {answer.status_code}")
    return [f"ok       control plane {source.url} answers", *_clock(answer), *_told_to_players(settings.relay)]


def _clock(answer: httpx.Response) -> _Findings:
    try:
        apart_seconds = abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return []
    if apart_seconds <= _CLOCKS_APART_SECONDS:
        return []
    return [f"warning  the clocks of this host and the control plane are {apart_seconds:.0f} s apart"]


def _told_to_players(relay: RelaySettings) -> _Findings:
    if not ipaddress.ip_address(relay.public_ip).is_loopback:
        return []
    return [f"warning  relay.public_ip: players are told {relay.public_ip}, which only this host can reach"]


def _state(settings: Settings) -> _Findings:
    directory = settings.state.directory
    if settings.source.kind != "control_plane":
        return []
    try:
        if not directory.exists():
            return _not_made_yet(directory)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ConfigurationError(f"state.directory: {directory}: cannot be written to: {error.strerror}") from None
    return [f"ok       {directory} keeps the last good sessions"]


def _not_made_yet(directory: Path) -> _Findings:
    """Nor made here: it would belong to whoever asks, and not to the user that the relay runs as."""
    nearest = next(parent for parent in directory.parents if parent.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ConfigurationError(f"state.directory: {directory}: cannot be made: {nearest} cannot be written to")
    return [f"ok       {directory} will keep the last good sessions: the first start makes it"]


def _file(settings: Settings) -> _Findings:
    source = settings.source
    if source.kind == "embedded":
        raise ConfigurationError('source.kind: "embedded" is what `relayd dev` uses; `relayd run` needs another')
    snapshot = Snapshot()
    try:
        _, content = run_loop(within(LIMIT_SECONDS, read, source.path))
        for _ in read_sessions(content.decode("utf-8-sig"), snapshot):
            pass
    except TimeoutError:
        raise UnavailableError(f"source.path: {source.path}: {HUNG}") from None
    except OSError as error:
        raise ConfigurationError(f"source.path: {source.path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"source.path: {source.path}: not UTF-8 text") from None
    except SessionFileError as error:
        raise ConfigurationError(f"{source.path}:{error}") from None
    users = sum(len(spec.users) for spec in snapshot.sessions.values())
    findings = [f"ok       {source.path}: {len(snapshot)} sessions, {users} users"]
    if not users:
        findings.append(f"warning  {source.path}: nobody may play, for no session has users")
    nowhere = sum(user.ip_address is None for spec in snapshot.sessions.values() for user in spec.users)
    if settings.limits.pin_ip and nowhere:
        findings.append(f"warning  limits.pin_ip is on, and {nowhere} users have no ip_address: they cannot play")
    return findings


def _ports(running: _Running, settings: Settings) -> _Findings:
    if running is _Running.THIS_RELAY:
        return ["ok       the UDP ports are held by the relay that runs here", *_named(settings.relay)]
    if running is _Running.ONE_THAT_DOES_NOT_SAY:
        way_out = "RELAYD_ADMIN__SOCKET=PATH relayd check, with the path that its log names"
        if os.geteuid() != 0:
            way_out = f"try again as root, or {way_out}"
        return [f"warning  a relay answers on {settings.admin.bind}, and does not say which to this user: {way_out}"]
    sockets, warnings = open_sockets(settings.relay)
    for one in sockets:
        one.socket.close()
    relay = settings.relay
    return [
        f"ok       UDP ports {relay.server_port} and {relay.client_port} on {', '.join(relay.bind)}",
        *_named(relay),
        *(f"warning  {warning}" for warning in warnings),
    ]


def _addresses(settings: Settings) -> _Findings:
    return examine_addresses(settings.relay.bind)


def _named(relay: RelaySettings) -> _Findings:
    server_port, client_port = relay.named_ports
    if (server_port, client_port) == (relay.server_port, relay.client_port):
        return []
    return [f"ok       sessions name UDP ports {server_port} and {client_port}: what maps them has to send them here"]


def _admin(running: _Running, settings: Settings) -> _Findings:
    AdminFiles.read(settings)
    if running is not _Running.NONE:
        return [f"ok       TCP {settings.admin.bind} is held by the relay that runs here"]
    listen(settings.admin.bind, "admin.bind").close()
    return [f"ok       TCP {settings.admin.bind} for metrics and health", *_socket_elsewhere(settings)]


def _socket_elsewhere(settings: Settings) -> _Findings:
    path = path_to_listen_on(settings, os.environ)
    if settings.admin.socket is not None or why_unreachable(path) is not None:
        return []
    return [
        f"warning  admin.socket: another relay listens on {path}; this one will on {path_of_this_user(settings)}:"
        " name a path of its own"
    ]


def _api(settings: Settings) -> _Findings:
    return examine_api(settings.api)


def _is_control_plane_alone(sections: set[str]) -> bool:
    """Whether nothing in a configuration is about a relay."""
    return "api" in sections and not sections & {"relay", "source", "admin", "fast_path", "state"}


def _who_runs(settings: Settings, config: Path | None) -> _Running:
    """Whether a relay of this configuration holds the ports: then they are taken, and all is well."""
    try:
        found = AdminClient(settings, config).about()
    except RefusedError:
        return _Running.ONE_THAT_DOES_NOT_SAY
    except FatalError:
        return _Running.NONE
    same = (found.server_port, found.client_port) == (settings.relay.server_port, settings.relay.client_port)
    return _Running.THIS_RELAY if same else _Running.NONE
