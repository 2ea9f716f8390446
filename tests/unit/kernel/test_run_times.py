"""How long the program runs for a datagram is measured now and then, and only of what it forwards."""

import os

from relayd.core.declaration.kernel_maps import RUN_TIMES
from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.wire import Port, encode_ping, encode_player_data
from relayd.forwarding.kernel import libbpf
from tests.scenarios.rig import XDP_DROP, XDP_TX, Rig
from tests.scenarios.skips import needs_virtual_kernel
from tests.support.virtual_clock import VirtualClock

pytestmark = needs_virtual_kernel

SESSION, HOST, ALICE = 0xCAFE, 1, 2
SAMPLE = 1024


def run(rig: Rig, frame: bytes, times: int) -> set[int]:
    """What becomes of it, so many times on one processor: each counts for itself."""
    may_use = os.sched_getaffinity(0)

    def all_of_them() -> set[int]:
        os.sched_setaffinity(0, {min(may_use)})
        try:
            return {libbpf.test_run(rig.program.fd, frame)[0] for _ in range(times)}
        finally:
            os.sched_setaffinity(0, may_use)

    return rig.network.run(all_of_them)


def test_one_in_so_many_forwarded_datagrams_is_timed() -> None:
    with Rig(clock=VirtualClock()) as rig:
        rig.authorize(("game", SESSION, (HOST, ALICE)))
        for source, port, user in (("10.77.0.50", Port.SERVER, HOST), ("10.77.0.51", Port.CLIENT, ALICE)):
            for _ in range(2):
                rig.handle(rig.frame(source, 7000, port, encode_ping(user, SESSION)))
        data = rig.frame("10.77.0.51", 7000, Port.CLIENT, encode_player_data(ALICE, SESSION, b"\x01cookie"))
        elsewhere = rig.frame("10.77.0.52", 7000, Port.CLIENT, encode_ping(ALICE, SESSION))
        assert run(rig, elsewhere, SAMPLE) == {XDP_DROP}
        assert run(rig, data, SAMPLE - 1) == {XDP_TX}
        assert sum(rig.fast_path.run_times().counts) == 0
        for samples in (1, 2):
            assert run(rig, data, 1) == {XDP_TX}
            assert sum(rig.fast_path.run_times().counts) == samples
            assert run(rig, data, SAMPLE - 1) == {XDP_TX}


def test_times_of_all_processors_are_one_sum_in_the_buckets_of_the_sockets() -> None:
    with Rig() as rig:
        processors = rig.fast_path.totals.processors
        buckets = len(DELAY_BOUNDS_NS.values) + 1
        words = [*range(1, buckets + 1), 500]
        assert len(words) * 8 == RUN_TIMES.size_bytes
        value = b"".join(word.to_bytes(8, "little") for word in words) * processors
        rig.program.map("run_times").update(bytes(4), value)
        found = rig.fast_path.run_times()
        assert found.counts == [processors * number for number in range(1, buckets + 1)]
        assert found.sum_seconds == processors * 500 / 1e9
        assert [bound * 1e9 for bound in found.bounds_seconds] == [float(bound) for bound in DELAY_BOUNDS_NS.values]
