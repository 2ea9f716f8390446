"""The admin server of a relay without sockets: asked in process, on a clock that jumps."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import httpx

from relayd.admin.drain import Drain
from relayd.admin.metrics.relay_metrics import RelayMetrics
from relayd.admin.metrics.series import SessionSeries
from relayd.admin.routes import create_admin
from relayd.core.desired import SessionSpec
from relayd.core.histogram import Histogram
from relayd.core.limits import Limits
from relayd.core.session import Binding, Session
from relayd.core.source_status import SourceStatus
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView, SocketMemory
from relayd.core.wire import Port
from relayd.settings import Settings
from tests.support.relays import Relay, spec
from tests.support.virtual_loop import now, run


class FakeKernel:
    """A fast path that says what the test has it say; see `KernelView`."""

    def __init__(self) -> None:
        self.up = True
        self.bindings_served = 0
        self.lost = 0
        self.interface_views = [InterfaceView("eth0", InterfaceState.FORWARDS)]
        self.ran = Histogram((0.1, 1.0))
        self.counts: dict[tuple[Port, Verdict], int] = {}
        self.conflicting: dict[Binding, int] = {}

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        return self.counts.get((port, verdict), 0)

    def run_times(self) -> Histogram:
        return self.ran

    def conflicts(self, binding: Binding) -> int:
        return self.conflicting.get(binding, 0)


class FakeAddresses:
    """Addresses that relay.bind names one by one; see `AddressView`."""

    def __init__(self) -> None:
        self.up: dict[str, bool] = {}

    @property
    def away(self) -> list[str]:
        return [address for address, up in self.up.items() if not up]

    @property
    def reachable(self) -> bool:
        return not self.up or any(self.up.values())


class FakePorts:
    """Sockets whose queues the test fills; see `SocketView`."""

    def __init__(self) -> None:
        self.queues: list[tuple[Port, SocketMemory]] = []
        self.waited: Histogram | None = None

    def memory(self) -> list[tuple[Port, SocketMemory]]:
        return self.queues

    def delays(self) -> Histogram | None:
        return self.waited


class AdminWorld:
    """A relay's core with its admin server. To be made on the loop, whose clock is the relay's.

    Args:
        specs: the sessions in its table.
        limits: of the relay.
        kernel: its fast path, if it has one.
        most_series: `admin.max_session_series`.
    """

    def __init__(
        self,
        specs: Iterable[SessionSpec] = (spec(),),
        limits: Limits | None = None,
        kernel: FakeKernel | None = None,
        most_series: int = 10,
    ) -> None:
        self.settings = Settings.model_validate({"relay": {"server_port": 32000, "client_port": 32001}})
        self.relay = Relay(limits, specs)
        self.relay.now = now()
        self.source = SourceStatus()
        self.drain = Drain(self.relay.engine, self.source)
        self.series = SessionSeries(most_series)
        self.ports = FakePorts()
        self.kernel = kernel
        self.absorbed: list[list[Session]] = []
        """Whose counters were asked to be brought up to date, call by call."""
        self.addresses = FakeAddresses()
        self.why_no_upgrade = ""
        self.upgrades = 0
        self.metrics = RelayMetrics(
            engine=self.relay.engine,
            series=self.series,
            source=self.source,
            clock=now,
            absorb=self._absorb,
            sockets=self.ports,
            loop_delay=Histogram((0.1, 1.0)),
            addresses=self.addresses,
            kernel=kernel,
        )
        self.app = create_admin(
            settings=self.settings,
            engine=self.relay.engine,
            source=self.source,
            drain=self.drain,
            metrics=self.metrics,
            absorb=self._absorb,
            upgrade=self._upgrade,
            addresses=self.addresses,
            kernel=kernel,
        )
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://admin")

    def tick(self) -> None:
        """Brings the relay's clock to the loop's, and has what is due expire."""
        self.relay.now = now()
        while self.relay.expire():
            pass

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of an answer that is fine."""
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def explain(self, target: str) -> Any:
        return await self.get("/v1/explain", target=target)

    def _absorb(self, sessions: Iterable[Session]) -> None:
        self.absorbed.append(list(sessions))

    def _upgrade(self) -> str:
        self.upgrades += 1
        return self.why_no_upgrade


def with_admin(work: Callable[[AdminWorld], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Runs a test with such a world."""

    async def started() -> None:
        world = AdminWorld(**options)
        async with world.client:
            await work(world)

    run(started())
