"""The session source that the settings name."""

import time
from collections.abc import Callable

from relayd.core.source_status import Load
from relayd.errors import ConfigurationError
from relayd.http.tls import signed_by
from relayd.session_source import SessionTable, Source
from relayd.session_source.file import FileSource
from relayd.settings import Settings

SourceFactory = Callable[[Settings, SessionTable, Callable[[], Load]], Source]


def source_from_settings(settings: Settings, table: SessionTable, load: Callable[[], Load]) -> Source:
    """The source that [source] names, for `relayd run`.

    Raises:
        ConfigurationError: `relayd run` has no such source, or its key cannot be read.
    """
    source = settings.source
    if source.kind == "file":
        return FileSource(source.path, table, poll_interval=source.poll_interval, shrink_hold=source.shrink_hold)
    if source.kind == "embedded":
        raise ConfigurationError('source.kind: "embedded" is what `relayd dev` uses; `relayd run` needs another')
    return _control_plane(settings, table, load)


def _control_plane(settings: Settings, table: SessionTable, load: Callable[[], Load]) -> Source:
    # Half a second of imports, which a relay that reads a file is not to wait for.
    from relayd.session_source.control_plane.follow import ControlPlaneSource  # noqa: PLC0415
    from relayd.session_source.control_plane.keeper import Keeper  # noqa: PLC0415
    from relayd.session_source.control_plane.last_good import LastGood  # noqa: PLC0415
    from relayd.session_source.control_plane.negotiate import NegotiatedLink  # noqa: PLC0415
    from relayd.session_source.control_plane.node_api import NodeApi  # noqa: PLC0415
    from relayd.session_source.control_plane.public_list import PublicList  # noqa: PLC0415
    from relayd.session_source.control_plane.requests import HttpClient  # noqa: PLC0415

    source = settings.source
    trust = None if source.ca_file is None else signed_by(source.ca_file, "source.ca_file")
    client = HttpClient(source.url, source.read_key, source.timeout, trust=trust)
    link = NegotiatedLink(
        NodeApi(client, settings.relay, settings.limits), PublicList(client, settings.relay), time.monotonic
    )
    keeper = Keeper(LastGood(settings.state.directory), table)
    return ControlPlaneSource(
        link=link,
        table=table,
        keeper=keeper,
        poll_interval=source.poll_interval,
        shrink_hold=source.shrink_hold,
        load=load,
    )
