"""Processor time, to the nanosecond, and where it is spent.

Why not /proc/stat: on kernels without CONFIG_VIRT_CPU_ACCOUNTING it counts timer ticks of 4 ms, and load that is paced
by a timer is in step with them: the same load gave anything from 0.4 to 36 µs per datagram.

What is read instead is the scheduler's own run time, the first field of /proc/PID/task/TID/schedstat
(Documentation/scheduler/sched-stats.rst). Work of the network stack in softirq runs on top of whoever sends, on lo and
veth alike, and is counted for that thread. So the time of relay, generator and kernel threads together, less what the
generator alone takes for the same load on the direct path, is what the relaying costs. Only these are summed up, and
not the whole machine, so that what else runs on it does not enter. The other way, to see what time loops of lowest
priority are left with, counts exactly that too, and was no better even on a quiet machine.

"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

_KERNEL_THREADS_PARENT = 2
"""kthreadd."""


class CpuTime(NamedTuple):
    """Nanoseconds of processor time so far, or between two moments."""

    relay_ns: int
    generator_ns: int
    kernel_ns: int
    """In threads of the kernel: ksoftirqd, kworkers."""

    @property
    def total_ns(self) -> int:
        """Of all that the load and its relaying make work."""
        return sum(self)


class CpuMeter:
    """Measures from when it is made.

    Args:
        relay_pids: processes of the relay.
        generator_pids: processes of the load generator.
    """

    def __init__(self, relay_pids: Iterable[int], generator_pids: Iterable[int]) -> None:
        self._groups = (list(relay_pids), list(generator_pids))
        self._before = self._now()

    def stop(self) -> CpuTime:
        """What was used since."""
        return CpuTime(
            *(
                # Kernel threads come and go: one that ended is left out, one that is new counts from 0.
                sum(max(0, ns - before.get(pid, 0)) for pid, ns in now.items())
                for before, now in zip(self._before, self._now(), strict=True)
            )
        )

    def _now(self) -> list[dict[int, int]]:
        return [{pid: process_ns(pid) for pid in pids} for pids in (*self._groups, _kernel_threads())]


def process_ns(pid: int) -> int:
    """Processor time of all threads of a process; 0 where there is no such process any more."""
    if pid == os.getpid():
        # What is running right now is brought up to date for schedstat only by the next tick.
        return time.process_time_ns()
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_bytes().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def with_children(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _kernel_threads() -> list[int]:
    parent = f"/proc/{_KERNEL_THREADS_PARENT}/task/{_KERNEL_THREADS_PARENT}/children"
    return [_KERNEL_THREADS_PARENT, *map(int, Path(parent).read_text(encoding="ascii").split())]


@contextmanager
def awake(numbers: Iterable[int]) -> Iterator[None]:
    """Keeps cores from going idle, by a loop on each that gives way to everything else.

    What it takes to wake an idle core depends on the machine (on a virtual one the host has a part in it) and differs
    from run to run: at 10,000 datagrams a second five runs were within 4 % of their median with these loops, and from
    -7 to +87 % without.
    """
    with ExitStack() as stack:
        for number in set(numbers):
            loop = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _NEVER_IDLE, str(number)], stdout=subprocess.PIPE
            )
            stack.enter_context(loop)
            stack.callback(loop.kill)
            assert loop.stdout is not None
            loop.stdout.read(1)
        yield


_NEVER_IDLE = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.write(1, b".")
while True:
    pass
"""


class Cores(NamedTuple):
    """Which core is whose."""

    relay: int
    generator: int


def cores() -> Cores:
    """The first for the relay, the last for the generator: one each, where there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])
