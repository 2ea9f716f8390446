"""What `relayd check` says of [api]: whether a control plane could start with it."""

from pathlib import Path

from relayd.control_plane.errors import StoreUnusableError
from relayd.control_plane.store.lock import is_locked
from relayd.control_plane.store.sqlite import MEMORY, examine_database
from relayd.errors import ConfigurationError
from relayd.http.tcp import listen
from relayd.http.tls import Certificate
from relayd.settings import ApiSettings, read_secret


def examine_api(api: ApiSettings) -> list[str]:
    """A line for each thing that was found in order. Makes no file.

    Raises:
        ConfigurationError: a file that is named cannot be used.
        UnavailableError: the port is taken, and not by a control plane with this database.
    """
    Certificate.configured(api.tls_certificate_file, api.tls_key_file, "api")
    for file, setting in ((api.token_file, "api.token_file"), (api.webhook_secret_file, "api.webhook_secret_file")):
        if file is not None:
            read_secret(file, setting)
    try:
        served = api.database != MEMORY and is_locked(Path(api.database))
    except PermissionError as error:
        return [
            f"warning  api.database: this user may not look whether a control plane serves {api.database}:"
            f" {error.filename}: {error.strerror}"
        ]
    if served:
        return [f"ok       TCP {api.bind} and {api.database} are held by the control plane that runs here"]
    try:
        examine_database(api.database)
    except StoreUnusableError as error:
        raise ConfigurationError(f"api.database: {error}") from None
    listen(api.bind, "api.bind").close()
    return [f"ok       TCP {api.bind} and {api.database} for the control plane"]
