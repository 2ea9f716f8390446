"""File systems that only one process sees, gone with it."""

import os

from tests.integration.namespaces import as_root_of_a_user_namespace

PAGE_BYTES = 4096


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
