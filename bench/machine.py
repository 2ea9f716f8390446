"""What a result was measured on."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from relayd import __version__

_ROOT = Path(__file__).parents[1]
_PEER_PACKAGES = ("nginx", "coturn")


class Machine(BaseModel):
    """Hardware, kernel and the versions of all that is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processor: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        """This one."""
        peers = {name: found for name in _PEER_PACKAGES if (found := debian_package(name))}
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            kernel=f"{platform.system()} {platform.release()}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions={"relayd": _relayd(), "uvloop": version("uvloop"), "numpy": version("numpy"), **peers},
        )

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.kernel}, {self.python}"


def describe() -> str:
    """Processor, cores, kernel and Python, in one line."""
    return str(Machine.here())


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process; of this one by default."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def debian_package(name: str) -> str:
    """The version that is installed; empty if none is, or if this is no Debian."""
    status, _, found = _output("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name).partition(
        " "
    )
    return found if status == "installed" else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _relayd() -> str:
    """Its version, and the commit where there is one."""
    commit = _output("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--exclude=*")
    return f"{__version__} ({commit})" if commit else __version__


def _output(*command: str) -> str:
    """What a command prints; nothing if it fails or is not there."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
