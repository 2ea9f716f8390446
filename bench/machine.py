"""What a result was measured on, and with."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

_PROGRAMS = {
    "nginx": ("/usr/sbin/nginx", "-v"),
    "coturn": ("/usr/bin/turnserver", "--version"),
}
_LIBRARIES = ("uvloop", "numpy")
_VERSION = re.compile(r"\d+(\.\d+)+")


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


def versions() -> str:
    """Of all that is measured or measures, in one line; what is not installed is left out."""
    return ", ".join(f"{name} {number}" for name, number in _versions())


def _versions() -> Iterator[tuple[str, str]]:
    yield "relayd", version("relayd")
    # More than this no peer of relayd can have as its receive buffer.
    yield "net.core.rmem_max", Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii").strip()
    for name in _LIBRARIES:
        yield name, version(name)
    for name, command in _PROGRAMS.items():
        if Path(command[0]).exists():
            # nginx says it on standard error; turnserver, before its version, in a few lines of other things.
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = _VERSION.search(done.stdout + done.stderr)
            yield name, found.group() if found else "of unknown version"


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one by default."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
