"""What a result was measured on."""

import os
import platform
from pathlib import Path


def describe() -> str:
    """Processor, cores, kernel and Python, in one line."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, Linux {platform.release()},"
        f" {platform.python_implementation()} {platform.python_version()}"
    )


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one by default."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
