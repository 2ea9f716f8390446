"""Every relay that is measured forwards all there is, both ways, as the load generator's check sees it."""

import pytest

from bench.load.run import Load
from bench.load.shape import Shape
from bench.sizes import game_lengths
from bench.stage import SUBJECTS, staged
from tests.integration.fast_path import own_network
from tests.integration.namespaces import may_make_networks
from tests.scenarios.skips import needs_kernel

SHAPE = Shape(sessions=8, players=2, payload_bytes=game_lengths(), client_sockets=8, host_sockets=4)
LOAD = Load(seconds=0.2, per_second=2000, stamped=True)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if "fast path" not in name])
def test_a_load_goes_through_unharmed(name: str) -> None:
    if reason := SUBJECTS[name].missing():
        pytest.skip(reason)
    if not may_make_networks():
        pytest.skip("needs the right to make network namespaces")
    with own_network(), staged(name, shape=SHAPE) as stage:
        before = stage.relay.forwarded() if stage.relay.forwarded else 0
        through = stage.run(LOAD)
        direct = stage.run_direct(LOAD)
        assert through.tally.flawless, through.tally
        assert direct.tally.flawless, direct.tally
        assert through.tally.sent == direct.tally.sent == 400
        assert (through.cpu.relay_ns > 0) is (name != "direct")
        if stage.relay.forwarded:
            assert stage.relay.forwarded() - before == 400


@needs_kernel
def test_two_hosts_on_a_cable_talk_past_the_relay_and_through_it() -> None:
    with own_network(), staged("asyncio", "veth", SHAPE) as stage:
        assert stage.generator is not stage.direct_generator
        assert stage.run(LOAD).tally.flawless
        assert stage.run_direct(LOAD).tally.flawless
