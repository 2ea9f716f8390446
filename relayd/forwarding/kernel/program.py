"""The kernel program and its maps: loaded from the object in the tree, or taken over from where they are pinned."""

import errno
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import NamedTuple, Self

from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import Map, Room
from relayd.errors import UnavailableError
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.layout import PROGRAM
from relayd.forwarding.kernel.libbpf import BpfError, LibraryMissingError, checked, library
from relayd.forwarding.kernel.maps import BpfMap


class Sizes(NamedTuple):
    """How much the maps hold."""

    authorized: int
    """Pairs of tokens, bound or not."""
    bound: int
    """Bindings."""

    def entries(self, declared: Map) -> int:
        """``max_entries`` of a map."""
        return declared.most_entries(self.authorized if declared.entries is Room.AUTHORIZED else self.bound + 1)


class KernelProgram:
    """The loaded program and its maps.

    Args:
        program_fd: the program.
        maps: all maps, by name.
    """

    def __init__(self, program_fd: int, maps: Mapping[str, BpfMap]) -> None:
        self.fd = program_fd
        self.maps = maps

    @classmethod
    def load(
        cls,
        sizes: Sizes,
        pinned: Mapping[str, int] | None = None,
        content: bytes | None = None,
        name: str = PROGRAM,
        more_maps: Sequence[str] = (),
    ) -> Self:
        """Loads the program into the kernel.

        Args:
            sizes: of the maps.
            pinned: file descriptors of maps to use instead of new ones, by name.
            content: an object with the same maps, instead of the one in the tree.
            name: which of its programs.
            more_maps: names of maps that it has besides.

        Raises:
            UnavailableError: the host has no libbpf, or the kernel refuses; says why and what to do.
        """
        try:
            lib = library()
        except LibraryMissingError as error:
            raise UnavailableError(str(error)) from None
        # Kernels before 5.11 count the memory of maps against this limit.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        content = content or resources.files("relayd.forwarding.kernel").joinpath("relay.bpf.o").read_bytes()
        libbpf.log.clear()
        object_ = lib.bpf_object__open_mem(content, len(content), None)
        if not object_:
            raise UnavailableError(f"libbpf cannot read the kernel program: {_last_log_line()}")
        try:
            names = (*(declared.name for declared in MAPS), *more_maps)
            found = {key: lib.bpf_object__find_map_by_name(object_, key.encode()) for key in names}
            for declared in MAPS:
                if isinstance(declared.entries, Room):
                    result = lib.bpf_map__set_max_entries(found[declared.name], sizes.entries(declared))
                    checked(result, f"size of map {declared.name}")
            for key, fd in (pinned or {}).items():
                checked(lib.bpf_map__reuse_fd(found[key], fd), f"use of the pinned map {key}")
            checked(lib.bpf_object__load(object_), "load")
            maps = {key: BpfMap(key, os.dup(lib.bpf_map__fd(pointer))) for key, pointer in found.items()}
            program = lib.bpf_object__find_program_by_name(object_, name.encode())
            return cls(os.dup(checked(lib.bpf_program__fd(program), "find the program")), maps)
        except BpfError as error:
            raise UnavailableError(explain_load(error)) from None
        finally:
            lib.bpf_object__close(object_)

    def map(self, name: str) -> BpfMap:
        """One of the maps."""
        return self.maps[name]

    def close(self) -> None:
        """Closes this process's descriptors of program and maps; what is pinned or attached stays."""
        os.close(self.fd)
        for one in self.maps.values():
            os.close(one.fd)


def explain_load(error: BpfError) -> str:
    """Why the kernel took no program, in one sentence with a way out."""
    if error.errno in (errno.EPERM, errno.EACCES) and not _verifier_spoke():
        return "no right to load kernel programs: give relayd CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or run it as root"
    if error.errno == errno.ENOSYS:
        return "this kernel has no BPF: CONFIG_BPF_SYSCALL is off"
    if error.errno in (errno.ENOMEM, errno.E2BIG) and not _verifier_spoke():
        return (
            "the kernel has no memory for the maps: lower fast_path.max_bound_users or fast_path.max_authorized_users"
        )
    return (
        f"kernel {platform.release()} refuses the program ({error.strerror}); it needs Linux 5.15 or later."
        f" Its last word: {_last_log_line()}"
    )


def _verifier_spoke() -> bool:
    return any("PROG LOAD LOG" in line for line in libbpf.log)


def _last_log_line() -> str:
    lines = [part for line in libbpf.log for part in line.splitlines() if part.strip()]
    return lines[-1].strip() if lines else "nothing"
