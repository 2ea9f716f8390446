"""Program and maps under names in a BPF file system, where they outlive the process.

PIN_DIRECTORY/RELAY_ID/map_NAME, link_INTERFACE
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from relayd.errors import UnavailableError
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.attach import detach
from relayd.forwarding.kernel.maps import BpfMap

_MAP = "map_"
_LINK = "link_"
_MOUNTS = Path("/proc/self/mountinfo")


class Pins:
    """The pinned state of one relay."""

    def __init__(self, directory: Path, relay_id: str) -> None:
        self.folder = directory / _encode(relay_id)
        self._directory = directory

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            UnavailableError: there is no BPF file system, or no right to write to it.
        """
        self._look_at_the_file_system()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"fast_path.pin_directory: {self.folder}: {error.strerror}") from None

    def examine(self) -> None:
        """Whether `prepare` would make the folder, without making it; raises as that does."""
        self._look_at_the_file_system()
        nearest = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if nearest != self.folder and not os.access(nearest, os.W_OK | os.X_OK):
            raise UnavailableError(f"fast_path.pin_directory: {self.folder}: {nearest} cannot be written to")

    def _look_at_the_file_system(self) -> None:
        if not in_bpf_file_system(self._directory):
            raise UnavailableError(
                f"fast_path.pin_directory: {self._directory} is in no BPF file system, so the fast path would end with"
                " the process; `mount -t bpf bpf /sys/fs/bpf` makes one"
            )

    def maps(self) -> dict[str, BpfMap]:
        """The pinned maps by name, freshly opened."""
        return {
            path.name.removeprefix(_MAP): BpfMap(path.name.removeprefix(_MAP), libbpf.open_pinned(str(path)))
            for path in self._named(_MAP)
        }

    def links(self) -> dict[str, int]:
        """File descriptors of the pinned links, by interface."""
        found = {}
        for path in self._named(_LINK):
            fd = libbpf.open_pinned(str(path))
            if libbpf.kind_of(fd) == "bpf-link":
                found[_decode(path.name.removeprefix(_LINK))] = fd
            else:
                os.close(fd)
        return found

    def pin_map(self, one: BpfMap) -> None:
        """Keeps a map."""
        libbpf.pin(one.fd, str(self.folder / f"{_MAP}{one.name}"))

    def pin_link(self, interface: str, fd: int) -> None:
        """Keeps the program on an interface, in the place of whatever has its name and is no link."""
        self.unpin_link(interface)
        libbpf.pin(fd, str(self.folder / f"{_LINK}{_encode(interface)}"))

    def unpin_link(self, interface: str) -> None:
        """Forgets a link; the program goes once nobody else holds it."""
        (self.folder / f"{_LINK}{_encode(interface)}").unlink(missing_ok=True)

    def remove(self) -> None:
        """Takes the program off all interfaces and forgets everything: the folder is this relay's alone."""
        for fd in self.links().values():
            detach(fd)
            os.close(fd)
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def exist(self) -> bool:
        """Whether anything is pinned."""
        with suppress(FileNotFoundError):
            return any(self.folder.iterdir())
        return False

    def _named(self, prefix: str) -> Iterator[Path]:
        """What is pinned under such names. A link to another file, which a BPF file system may hold too, is not."""
        try:
            found = sorted(path for path in self.folder.iterdir() if path.name.startswith(prefix))
        except FileNotFoundError:
            return
        yield from (path for path in found if path.is_file() and not path.is_symlink())


def in_bpf_file_system(path: Path) -> bool:
    """Whether a path lies in a BPF file system, by /proc/self/mountinfo (proc(5))."""
    mounts = []
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        mounts.append((Path(before.split()[4]), after.split()[0]))
    holding = [(len(point.parts), kind) for point, kind in mounts if path.absolute().is_relative_to(point)]
    deepest = max((depth for depth, _ in holding), default=0)
    return [kind for depth, kind in holding if depth == deepest][-1:] == ["bpf"]


def _encode(name: str) -> str:
    """A name that a BPF file system takes: it has its own ideas of dots."""
    return re.sub(rb"[^A-Za-z0-9-]", lambda match: b"_%02x" % match[0][0], name.encode()).decode()


def _decode(name: str) -> str:
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), name.encode()).decode(errors="replace")
