"""What the process costs, as the kernel accounts for it."""

import mmap
import time
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")


class ProcessUse(NamedTuple):
    """What a process has used."""

    cpu_seconds: float
    """Of all its threads, in user space and in the kernel."""
    resident_bytes: int


def process_use() -> ProcessUse:
    """What this process has used so far.

    prometheus_client's ProcessCollector is not used: it wants /proc/stat, which a service may not be shown
    (systemd.exec(5), ProcSubset).
    """
    # proc_pid_statm(5): the second number is resident pages.
    resident_pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return ProcessUse(time.process_time(), resident_pages * mmap.PAGESIZE)
