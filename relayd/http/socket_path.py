"""Where the admin socket of a relay is: the relay makes it there, and the commands look for it."""

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from relayd.http.unix_socket import NoPlaceError
from relayd.settings import DEFAULT_CONFIG, Settings

SETTING = "admin.socket"
_NAME = "admin.sock"
_RUN = Path("/run")
_TEMPORARY = Path("/tmp")  # noqa: S108 - the folder in it is one's own, or is not used
"""Not TMPDIR: the relay and who asks it may differ in that."""


def runtime_directory(environment: Mapping[str, str]) -> Path | None:
    """The folder in /run that systemd makes for a unit, and names in its environment (systemd.exec(5))."""
    made = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(made) if made else None


def path_to_listen_on(settings: Settings, environment: Mapping[str, str], *, keeps_state: bool = True) -> Path:
    """Where a relay listens.

    Args:
        settings: its configuration.
        environment: of its process.
        keeps_state: whether it may make `state.directory` where that is not there yet.
    """
    if settings.admin.socket is not None:
        return settings.admin.socket
    made = runtime_directory(environment)
    if made is not None:
        return made / _NAME
    if _names_state(settings) or (keeps_state and _can_be_written(settings.state.directory)):
        return settings.state.directory / _NAME
    return path_of_this_user(settings)


def path_of_this_user(settings: Settings) -> Path:
    """For a relay that has no other place, as where somebody without rights tries it out. Several differ by port."""
    folder = _TEMPORARY / f"relayd-{os.geteuid()}"
    return folder / f"admin-{settings.relay.server_port}.sock"


def make_folder(path: Path, settings: Settings) -> None:
    """Makes the folder for the socket at this path, if that is one where anybody may make folders.

    Raises:
        NoPlaceError: it is another user's, who could put a socket of their own there, or cannot be made.
    """
    if path != path_of_this_user(settings):
        return
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise NoPlaceError(f"{path.parent} ({SETTING}) cannot be made: {error.strerror}") from None
    if not _is_private(path.parent):
        raise NoPlaceError(f"{path.parent} is not this user's alone: remove it, or name a path in {SETTING}")


def paths_to_ask(settings: Settings, config: Path | None) -> list[Path]:
    """Where a relay of this configuration may be listening, the likeliest first.

    Relays without paths of their own share one: whoever asks has to look who answers. Of a relay whose `admin.bind` is
    an address of another host, only a path that is named.

    Args:
        settings: the configuration.
        config: the file it was read from; None for the default one.
    """
    if settings.admin.socket is not None:
        return [settings.admin.socket]
    config = None if config is None else config.absolute()
    units = [_RUN / _unit_of(config) / _NAME] if config is None or config.parent == DEFAULT_CONFIG.parent else []
    state = settings.state.directory / _NAME
    if _is_elsewhere(settings.admin.bind):
        return [state] if _names_state(settings) else []
    likely = [state, *units] if _names_state(settings) else [*units, state]
    own = path_of_this_user(settings)
    return [*likely, *([own] if _is_private(own.parent) else [])]


def _unit_of(config: Path | None) -> str:
    """The runtime directory's name in relayd.service, and in relayd@NAME.service for /etc/relayd/NAME.toml."""
    return "relayd" if config is None or config == DEFAULT_CONFIG else f"relayd-{config.stem}"


def _names_state(settings: Settings) -> bool:
    return "directory" in settings.state.model_fields_set


def _is_elsewhere(bind: str) -> bool:
    """Whether a TCP address is none of this host's: ip(7), EADDRNOTAVAIL."""
    ip_address = bind.rpartition(":")[0].strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in ip_address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip_address, 0))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return False


def _can_be_written(directory: Path) -> bool:
    """Whether it can, or could be made."""
    there = next((one for one in (directory, *directory.parents) if os.access(one, os.F_OK)), directory)
    return os.access(there, os.W_OK | os.X_OK)


def _is_private(folder: Path) -> bool:
    """Whether nobody else can put a socket there."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
