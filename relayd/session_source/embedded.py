"""The link of a relay to a control plane in the same process: the same questions as over HTTP, without the wire."""

from collections.abc import AsyncGenerator

from pydantic import ValidationError

from relayd.control_plane.api.requests import explain
from relayd.control_plane.errors import NodeTakenError, NotFoundError, StoreUnavailableError
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.usage_models import UsageReport
from relayd.core.limits import Limits
from relayd.core.usage import UsageBatch, UsageRefusedError
from relayd.session_source.control_plane.heartbeat import Heartbeats
from relayd.session_source.control_plane.link import LinkError, News, Reading, Report, Version
from relayd.settings import RelaySettings


class EmbeddedLink:
    """See `relayd.session_source.control_plane.link.Link`."""

    def __init__(self, control_plane: ControlPlane, relay: RelaySettings, limits: Limits) -> None:
        self._control_plane = control_plane
        self._relay = relay
        self._heartbeats = Heartbeats(relay, limits)

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:
        """See `Link.heartbeat`. It has no other relay: of its fleet it is told nothing."""
        heartbeat = Heartbeat.model_validate(self._heartbeats.fields(report))
        try:
            newest = await self._control_plane.heartbeat(self._relay.id, heartbeat, wait_seconds)
        except (StoreUnavailableError, NodeTakenError) as error:
            raise LinkError(str(error)) from None
        version = Version(newest.epoch, newest.revision)
        return News(version, went_back=bool(newest.went_back), taken_back=tuple(newest.taken_back or ()))

    async def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        """See `Link.read`."""
        since, epoch = (applied.revision, applied.epoch) if applied else (0, None)
        after: str | None = None
        version: Version | None = None
        while True:
            try:
                page = await self._control_plane.node_sessions(self._relay.id, since=since, epoch=epoch, after=after)
            except (StoreUnavailableError, NotFoundError) as error:
                raise LinkError(str(error)) from None
            version = version or Version(page.epoch, page.revision)
            specs = tuple(spec for session in page.sessions if (spec := session.spec()) is not None)
            yield Reading(version, page.full, specs, tuple(page.removed))
            if page.next is None:
                return
            after = page.next

    async def take_usage(self, batch: UsageBatch) -> None:
        """See `Link.take_usage`."""
        body = {"stream": batch.stream, "records": [record.fields() for record in batch.records]}
        try:
            report = UsageReport.model_validate(body)
        except ValidationError as error:
            raise UsageRefusedError(explain(error)) from None
        try:
            await self._control_plane.take_usage(self._relay.id, report)
        except StoreUnavailableError as error:
            raise LinkError(str(error)) from None

    async def close(self) -> None:
        """Nothing to release: the control plane is not this link's."""
