"""Which process has a link open: a relay that runs does, and of one that ended only what is pinned is left."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LINK_NAMES = ("anon_inode:bpf-link", "anon_inode:bpf_link")


def process_holding(link: int) -> int:
    """The id of a process that has a link open; 0 where none is seen, as one in another container is not.

    Args:
        link: its id, which /proc/PID/fdinfo/FD has (kernel 5.8).
    """
    wanted = ["link_id:", str(link)]
    for fd in _open_links():
        with suppress(OSError):  # closed meanwhile
            lines = (fd.parents[1] / "fdinfo" / fd.name).read_text(encoding="ascii").splitlines()
            if any(line.split() == wanted for line in lines):
                return int(fd.parents[1].name)
    return 0


def _open_links() -> Iterator[Path]:
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or nobody's to look into
            yield from (fd for fd in (process / "fd").iterdir() if _is_link(fd))


def _is_link(fd: Path) -> bool:
    with suppress(OSError):
        return str(fd.readlink()) in _LINK_NAMES
    return False
