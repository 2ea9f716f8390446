"""File systems that only one process sees, gone with it."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.namespaces import as_root_of_a_user_namespace

PAGE_BYTES = 4096
_FIFREEZE, _FITHAW = 0xC004_5877, 0xC004_5878
"""Of <linux/fs.h>, as fsfreeze(8) uses them."""
_DISK_BYTES = 64 << 20
_MOUNT = 'mkfs.ext4 -q "$0" && mount -o loop "$0" "$1" && echo mounted && exec cat'


def may_mount() -> bool:
    """Whether a process can have one."""
    return os.geteuid() == 0 or as_root_of_a_user_namespace(["true"]) is not None


def on_a_disk(folder: str, options: str, first: str = "true") -> list[str]:
    """What stands before a command so that it finds a tmpfs at that place.

    Args:
        folder: the place, which is there.
        options: of the tmpfs, as mount(8) takes them.
        first: for the shell, once it is mounted; ``$0`` is the place.
    """
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && {first} && exec "$@"'
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-c", script, folder]


def is_full(fd: int) -> bool:
    """Writes another page to a file of that disk. Returns whether there is no room for it."""
    try:
        os.write(fd, bytes(PAGE_BYTES))
    except OSError:
        return True
    return False


class Disk:
    """An ext4 that can be frozen, as a snapshot does.

    Attributes:
        path: where every process of this user finds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever writes to it waits, and can be ended by nothing, until the end of the block."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _FIFREEZE, 0)
            try:
                yield
            finally:
                fcntl.ioctl(fd, _FITHAW, 0)
        finally:
            os.close(fd)


@contextmanager
def disk_of_its_own(folder: Path) -> Iterator[Disk]:
    """One in a file, mounted where only a process that does nothing else sees it, and gone with that.

    Args:
        folder: where the file goes.
    """
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root, and mkfs.ext4 (Debian: e2fsprogs)")
    image, place = folder / "image", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    command = ["unshare", "--mount", "sh", "-c", _MOUNT, str(image), str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"mounted\n":
            pytest.skip("no file system in a file can be mounted here")
        try:
            yield Disk(Path(f"/proc/{keeper.pid}/root{place}"))
        finally:
            keeper.stdin.close()
