"""Networks of their own for tests, as threads that live in them. They have no names: what nobody uses any more ends.

A socket belongs to the network of the thread that makes it, and a process to that of the thread that starts it.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_native_id
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET = 0x4000_0000
_SYSTEM_PATH = "/usr/sbin:/sbin:" + os.environ.get("PATH", os.defpath)


class Namespace:
    """A network with nothing in it but a loopback interface."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        try:
            self.id = self.run(_leave_for_a_new_network)
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function inside."""
        return self._thread.submit(function, *args, **kwargs).result()

    def ip(self, *arguments: str) -> None:
        """Runs ip(8) inside."""
        self.run(_run, "ip", *arguments)

    def ip_batch(self, lines: Iterable[str]) -> None:
        """Runs ip(8) once for many lines: a process for each would take a hundred times as long."""
        self.run(_run, "ip", "-batch", "-", given="\n".join(lines))

    def set(self, key: str, value: int) -> None:
        """Sets a sysctl of the network."""
        self.run(Path("/proc/sys/net", key).write_text, str(value), encoding="ascii")


def _leave_for_a_new_network() -> int:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise PermissionError(ctypes.get_errno(), "a network of its own is not available")
    return get_native_id()


def _run(program: str, *arguments: str, given: str = "") -> None:
    path = shutil.which(program, path=_SYSTEM_PATH)
    assert path is not None
    done = subprocess.run([path, *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (program, *arguments, done.stderr)


def connect(left: Namespace, left_address: str, right: Namespace, right_address: str) -> None:
    """A cable between two networks: an interface ``cable`` in each."""
    left.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(right.id))
    for side, address in ((left, left_address), (right, right_address)):
        side.ip("address", "add", f"{address}/24", "dev", "cable")
        side.ip("link", "set", "cable", "up")


def missing_program() -> str | None:
    """What would have to be installed."""
    return None if shutil.which("ip", path=_SYSTEM_PATH) else "the program `ip` (Debian: iproute2)"


def may_make_networks() -> bool:
    """Whether this process itself may, which takes CAP_SYS_ADMIN."""
    try:
        with Namespace():
            return True
    except PermissionError:
        return False


def as_root_of_a_user_namespace(command: list[str]) -> list[str] | None:
    """The command such that it may make networks without being root, or None where the kernel does not allow that."""
    unshare = shutil.which("unshare", path=_SYSTEM_PATH)
    if unshare is None:
        return None
    prefix = [unshare, "--map-root-user", "--net"]
    allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return [*prefix, *command] if allowed else None
