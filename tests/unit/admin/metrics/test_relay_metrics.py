"""The metrics of a relay as Prometheus would parse them."""

from prometheus_client.parser import text_string_to_metric_families

from relayd.core.histogram import Histogram
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView, SocketMemory
from relayd.core.wire import Port
from tests.support.admin_server import AdminWorld, FakeKernel, with_admin
from tests.support.virtual_loop import now


async def samples(world: AdminWorld) -> dict[tuple[str, ...], float]:
    """Values by name and label values in the order of their labels' names."""
    text = (await world.metrics.render()).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def play(world: AdminWorld) -> None:
    world.relay.host_pings()
    world.relay.player_pings()
    world.relay.player_sends()
    for event in world.relay.events:
        world.series.event(event)


def test_every_verdict_of_both_ports_has_a_series_from_the_start() -> None:
    async def work(world: AdminWorld) -> None:
        found = await samples(world)
        for port in Port:
            for verdict in Verdict:
                assert found["relayd_datagrams_total", port.label, verdict.label] == 0

    with_admin(work)


def test_what_is_forwarded_counts_for_the_relay_and_for_its_session() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        found = await samples(world)
        assert found["relayd_datagrams_total", "client", "forwarded"] == 1
        by_session = {key: value for key, value in found.items() if "game" in key}
        assert 1 in by_session.values()
        assert [[one.session_id for one in call] for call in world.absorbed] == [["game"]], "read before it is shown"

    with_admin(work)


def test_the_queues_of_the_sockets() -> None:
    async def work(world: AdminWorld) -> None:
        world.ports.queues = [
            (Port.CLIENT, SocketMemory(10, 100, 20, 200, 3)),
            (Port.CLIENT, SocketMemory(1, 100, 2, 200, 4)),
        ]
        found = await samples(world)
        assert 7 in [value for key, value in found.items() if "overflow" in key[0] and "client" in key]

    with_admin(work)


def test_how_long_datagrams_were_in_the_relay_where_somebody_measures_it() -> None:
    async def work(world: AdminWorld) -> None:
        assert not [key for key in await samples(world) if key[0].startswith("relayd_added_latency")]
        world.ports.waited = Histogram((0.1, 1.0))
        world.ports.waited.observe(0.5)
        found = await samples(world)
        assert found["relayd_added_latency_seconds_count", "sockets"] == 1
        assert found["relayd_added_latency_seconds_bucket", "1.0", "sockets"] == 1
        assert found["relayd_added_latency_seconds_bucket", "0.1", "sockets"] == 0

    with_admin(work)


def test_the_age_of_the_source_and_a_drain() -> None:
    async def work(world: AdminWorld) -> None:
        world.source.started(now() - 12.0)
        world.relay.engine.draining = True
        found = await samples(world)
        assert found["relayd_draining",] == 1
        assert 12.0 in [value for key, value in found.items() if key[0].startswith("relayd_source")]

    with_admin(work)


def test_what_the_kernel_decided() -> None:
    async def work(world: AdminWorld) -> None:
        assert world.kernel is not None
        world.kernel.up, world.kernel.bindings_served = False, 17
        found = await samples(world)
        values = {key[0]: value for key, value in found.items() if key[0].startswith("relayd_fast_path")}
        assert 17 in values.values()
        assert values["relayd_fast_path_up"] == 0

    with_admin(work, kernel=FakeKernel(), limits=Limits())


def test_what_interfaces_of_the_fast_path_lost() -> None:
    async def work(world: AdminWorld) -> None:
        assert world.kernel is not None
        world.kernel.lost = 53
        world.kernel.interface_views = [
            InterfaceView("eth0", InterfaceState.LOSES),
            InterfaceView("eth1", InterfaceState.FORWARDS),
        ]
        found = await samples(world)
        assert found["relayd_fast_path_lost_total",] == 53
        ones = {key[1:] for key, value in found.items() if key[0] == "relayd_fast_path_interface" and value}
        assert ones == {("eth0", "loses"), ("eth1", "forwards")}

    with_admin(work, kernel=FakeKernel(), limits=Limits())
