"""What the kernel program counted, added to the counts of the engine, so that everybody reads one sum.

Totals per verdict are kept by the program for each processor; here only what was added since the last look is added on.
"""

import structlog

from relayd.core.counters import MOST_COUNTED, Counters
from relayd.core.declaration.common import TOTAL
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.kernel.libbpf import checked, library
from relayd.forwarding.kernel.maps import BpfMap

_TOTAL = TOTAL.packing()
_TOTAL_WORDS = len(TOTAL.fields)
_VERDICTS = len(Verdict)

_log = structlog.get_logger()


class Totals:
    """The program's totals.

    Args:
        totals: the map the program counts in.
        taken_over: the map that keeps, for the next process, what was added so far.
        counters: the engine's, which get the sum.
    """

    def __init__(self, totals: BpfMap, taken_over: BpfMap, counters: Counters) -> None:
        self._totals = totals
        self._taken_over = taken_over.share()
        self._counters = counters
        # From /sys/devices/system/cpu/possible, which a sandbox may not show.
        self.processors = checked(library().libbpf_num_possible_cpus(), "count the processors")
        self._seen = [[[0, 0] for _ in Verdict] for _ in Port]
        if not self._can_be():
            self._start_at_zero()

    def absorb(self) -> None:
        """Adds what the program counted since the last call."""
        for port in Port:
            datagrams, sizes = self._counters.datagrams[port], self._counters.bytes[port]
            for verdict in Verdict:
                now = self._read(port, verdict)
                seen = self._seen[port][verdict]
                datagrams[verdict] += now[0] - seen[0]
                sizes[verdict] += now[1] - seen[1]
                if now != seen:
                    self._seen[port][verdict] = now
                    _TOTAL.pack_into(self._taken_over, _index(port, verdict) * _TOTAL.size, *now)

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        """Datagrams that the program decided so, as of the last `absorb`."""
        return self._seen[port][verdict][0]

    def go_on(self) -> None:
        """Continues after a restart: the engine's counts include what the predecessor took over from the program."""
        for port in Port:
            for verdict in Verdict:
                self._seen[port][verdict] = self._taken(port, verdict)

    def _can_be(self) -> bool:
        """Whether a predecessor can have left these counts, which have no checksum."""
        pairs = [(self._read(port, verdict), self._taken(port, verdict)) for port in Port for verdict in Verdict]
        return all(then <= now <= MOST_COUNTED for nows, thens in pairs for now, then in zip(nows, thens, strict=True))

    def _start_at_zero(self) -> None:
        _log.warning("the counts of the fast path before are not used: they were damaged")
        for port in Port:
            for verdict in Verdict:
                self._totals.update(_key(port, verdict), bytes(_TOTAL.size * self.processors))
                _TOTAL.pack_into(self._taken_over, _index(port, verdict) * _TOTAL.size, *[0] * _TOTAL_WORDS)

    def _taken(self, port: Port, verdict: Verdict) -> list[int]:
        return list(_TOTAL.unpack_from(self._taken_over, _index(port, verdict) * _TOTAL.size))

    def _read(self, port: Port, verdict: Verdict) -> list[int]:
        raw = self._totals.lookup(_key(port, verdict), self.processors) or b""
        words = memoryview(raw).cast("Q")
        return [sum(words[part::_TOTAL_WORDS]) for part in range(_TOTAL_WORDS)]


def _index(port: Port, verdict: Verdict) -> int:
    return port * _VERDICTS + verdict


def _key(port: Port, verdict: Verdict) -> bytes:
    return _index(port, verdict).to_bytes(4, "little")
