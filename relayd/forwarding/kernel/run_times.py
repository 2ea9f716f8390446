"""How long the kernel program runs for a datagram that it forwards, as it measures some of them itself."""

from relayd.core.declaration.kernel_maps import RUN_TIMES
from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.histogram import Histogram
from relayd.core.meter import NS_PER_SECOND
from relayd.forwarding.kernel.maps import BpfMap

_WORDS = RUN_TIMES.size_bytes // 8
_BOUNDS_SECONDS = tuple(bound_ns / NS_PER_SECOND for bound_ns in DELAY_BOUNDS_NS.values)


def read_run_times(run_times: BpfMap, processors: int) -> Histogram:
    """The sum over all processors.

    Args:
        run_times: the map that the program counts in.
        processors: how many this host may have.
    """
    words = memoryview(run_times.lookup(bytes(4), processors) or b"").cast("Q")
    *counts, sum_ns = (sum(words[number::_WORDS]) for number in range(_WORDS))
    found = Histogram(_BOUNDS_SECONDS)
    found.counts, found.sum_seconds = counts, sum_ns / NS_PER_SECOND
    return found
