"""A clock that is turned by hand, and the two engines in C compiled so that they go by it.

Both read the time in one header of their own, and in these builds another one stands in its place. All else is what is
in the tree.
"""

import atexit
import ctypes
import importlib.machinery
import importlib.util
import platform
import shutil
import subprocess
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from relayd.core.meter import NS_PER_SECOND
from tests.integration.programs import REPOSITORY

if TYPE_CHECKING:
    from relayd.forwarding.thread._forwarder import Forwarder

TICK = 1 / 512
"""The shortest time there is here: whole in nanoseconds, and exact in a double, so that all engines see the same."""

KERNEL_CLOCK = "virtual_clock"
"""The map that the kernel program takes its time from."""

_HEADERS = Path(__file__).parent / "c"
_COMPILERS = ("gcc", "clang")


class VirtualClock:
    """Seconds that pass when told to. Called, it gives the time."""

    def __init__(self, seconds: float = 1024.0) -> None:
        self._seconds = seconds
        self._followers: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        return self._seconds

    @property
    def nanoseconds(self) -> int:
        return int(self._seconds * NS_PER_SECOND)

    def follow(self, set_clock: Callable[[float], None]) -> None:
        """Has somebody else's clock show the same."""
        self._followers.append(set_clock)
        set_clock(self._seconds)

    def advance(self, seconds: float) -> None:
        """Turns it on; less than 0 for what two processors may see of each other's time."""
        self._seconds += seconds
        for set_clock in self._followers:
            set_clock(self._seconds)


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="relayd-virtual-clock-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


# The kernel program -----------------------------------------------------------------------------------------------


@cache
def no_program() -> str | None:
    """Why the kernel program cannot be compiled here."""
    if shutil.which("clang") is None:
        return "needs clang to compile the kernel program for a virtual clock"
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        return "needs bpf/bpf_helpers.h (Debian: libbpf-dev)"
    return None


@cache
def kernel_program() -> bytes:
    """The object file of the kernel program, with the map `KERNEL_CLOCK` besides its own."""
    made = _folder() / "relay.bpf.o"
    includes = [f"-I/usr/include/{platform.machine()}-linux-gnu", "-include", str(_HEADERS / "kernel_clock.h")]
    options = ["-O2", "-g", "-target", "bpfel", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", *includes]
    source = REPOSITORY / "relayd/forwarding/kernel/relay.bpf.c"
    subprocess.run(["clang", *options, "-c", str(source), "-o", str(made)], check=True)
    return made.read_bytes()


# The forwarding thread --------------------------------------------------------------------------------------------


@cache
def no_thread() -> str | None:
    """Why the forwarding thread cannot be compiled here."""
    if _compiler() is None:
        return "needs a C compiler (Debian: gcc)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "needs Python's headers (Debian: python3-dev)"
    return None


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, _COMPILERS)), None)


@cache
def thread_module() -> "tuple[type[Forwarder], Callable[[float], None]]":
    """The type `Forwarder`, and what sets the time of all of its threads."""
    made = _folder() / "_forwarder.so"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (module,) = project["tool"]["setuptools"]["ext-modules"]
    includes = ["-include", str(_HEADERS / "thread_clock.h"), f"-I{sysconfig.get_path('include')}"]
    options = [*module["extra-compile-args"], *module["extra-link-args"], "-shared", "-fPIC", *includes]
    sources = [str(REPOSITORY / source) for source in module["sources"]]
    subprocess.run([str(_compiler()), *options, *sources, "-o", str(made)], check=True)
    loader = importlib.machinery.ExtensionFileLoader("_forwarder", str(made))
    spec = importlib.util.spec_from_loader("_forwarder", loader)
    assert spec is not None
    loaded = importlib.util.module_from_spec(spec)
    loader.exec_module(loaded)
    seconds = ctypes.c_double.in_dll(ctypes.CDLL(str(made)), "virtual_seconds")

    def set_clock(now: float) -> None:
        seconds.value = now

    return cast("type[Forwarder]", loaded.Forwarder), set_clock
