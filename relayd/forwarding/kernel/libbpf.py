"""libbpf through ctypes: as much of it as the fast path needs, with errors that say what was asked for.

The signatures are those of bpf/libbpf.h and bpf/bpf.h, version 1.0 and later (Debian: libbpf1). Functions of libbpf 1
return a negative errno or a null pointer with errno set.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = "libbpf.so.1"
_LOG_LINES_KEPT = 50
_LOG_LINE_BYTES = 1 << 20
"""The whole of the verifier's log comes as one line."""


class BpfError(OSError):
    """A call that the kernel or libbpf refused."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(abs(number), f"{what}: {os.strerror(abs(number))}")


class LibraryMissingError(Exception):
    """There is no libbpf of version 1 on this host."""


class XdpQuery(Structure):
    """`struct bpf_xdp_query_opts`."""

    _fields_ = (
        ("sz", c_size_t),
        ("prog_id", c_uint32),
        ("drv_prog_id", c_uint32),
        ("hw_prog_id", c_uint32),
        ("skb_prog_id", c_uint32),
        ("attach_mode", ctypes.c_uint8),
    )


class LinkCreate(Structure):
    """`struct bpf_link_create_opts`, up to its flags."""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("padding", c_uint32))


class ProgramInfo(Structure):
    """`struct bpf_prog_info`, up to the name."""

    _fields_ = (
        ("before", ctypes.c_uint8 * 52),
        ("nr_map_ids", c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
    )


class TestRun(Structure):
    """`struct bpf_test_run_opts`."""

    __test__ = False
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


_U32 = POINTER(c_uint32)
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (c_void_p, (_PRINT,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_mem": (c_void_p, (c_void_p, c_size_t, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, ctypes.c_uint64)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, _U32, c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, _U32, c_void_p)),
    "bpf_map_lookup_batch": (c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p, _U32, c_void_p)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, _U32)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_link_get_next_id": (c_int, (c_uint32, _U32)),
    "bpf_link_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_xdp_query": (c_int, (c_int, c_int, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
}

log: list[str] = []
"""The last lines libbpf had to say: of a program that the kernel refuses, the verifier's reasons."""


@cache
def library() -> ctypes.CDLL:
    """The library, loaded once.

    Raises:
        LibraryMissingError: it is not there, or is an older one.
    """
    try:
        loaded = ctypes.CDLL(LIBRARY, use_errno=True)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as error:
        raise LibraryMissingError(f"{LIBRARY} cannot be loaded ({error}); on Debian: apt-get install libbpf1") from None
    loaded.libbpf_set_print(_KEEP_LINE)
    return loaded


def _keep_line(_level: int, template: bytes, arguments: int) -> int:
    # The arguments are a C va_list, out of reach here; the lines themselves come by way of vsnprintf.
    buffer = ctypes.create_string_buffer(_LOG_LINE_BYTES)
    _vsnprintf()(buffer, len(buffer), template, arguments)
    log.append(buffer.value.decode(errors="replace").rstrip())
    del log[:-_LOG_LINES_KEPT]
    return 0


_KEEP_LINE = _PRINT(_keep_line)
"""Has to live as long as the library calls it."""


@cache
def _vsnprintf() -> Callable[..., int]:
    function = ctypes.CDLL(None).vsnprintf
    function.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
    function.restype = c_int
    return function


def checked(result: int | None, what: str) -> int:
    """The result of a call of libbpf.

    Raises:
        BpfError: it is negative.
    """
    if result is None or result < 0:
        # A negative errno, or -1 and NULL, which leave it in errno; else that may be of an earlier call.
        raise BpfError(-result if result is not None and result < -1 else ctypes.get_errno(), what)
    return result


def pin(fd: int, path: str) -> None:
    """Gives a map or link a name in a BPF file system, which keeps it alive."""
    checked(library().bpf_obj_pin(fd, path.encode()), f"pin {path}")


def open_pinned(path: str) -> int:
    """A file descriptor of a pinned map or link."""
    return checked(library().bpf_obj_get(path.encode()), f"open {path}")


def kind_of(fd: int) -> str:
    """What the kernel calls a file descriptor's kind: `bpf-map`, `bpf-link`, `bpf-prog`, or of something else."""
    # A link that was just made is called bpf_link, and one that was pinned bpf-link.
    return Path(f"/proc/self/fd/{fd}").readlink().name.removeprefix("anon_inode:").replace("_", "-")


def info(fd: int, size_bytes: int) -> bytes:
    """The first ``size_bytes`` of what the kernel says of a map, program or link: `struct bpf_…_info`."""
    buffer = ctypes.create_string_buffer(size_bytes)
    length = c_uint32(size_bytes)
    checked(library().bpf_obj_get_info_by_fd(fd, buffer, byref(length)), "ask the kernel about an object")
    return buffer.raw[: length.value].ljust(size_bytes, b"\0")


def program_info(fd: int, most_maps: int) -> tuple[list[int], str]:
    """The ids of a program's maps, no more than so many, and its name."""
    ids = (c_uint32 * most_maps)()
    asked = ProgramInfo(nr_map_ids=most_maps, map_ids=ctypes.addressof(ids))
    length = c_uint32(ctypes.sizeof(asked))
    checked(library().bpf_obj_get_info_by_fd(fd, byref(asked), byref(length)), "ask the kernel about a program")
    return ids[: min(asked.nr_map_ids, most_maps)], asked.name.decode("ascii", "replace")


def test_run(program_fd: int, packet: bytes, repeat: int = 1, ifindex: int = 0) -> tuple[int, bytes, int]:
    """Runs an XDP program on a packet, without any network: BPF_PROG_TEST_RUN.

    Args:
        program_fd: the program.
        packet: the frame, from its Ethernet header on.
        repeat: how often; the program finds the packet as it left it.
        ifindex: the interface it is said to come in by; 0 stands for the loopback interface.

    Returns:
        Verdict (XDP_DROP 1, XDP_PASS 2, XDP_TX 3, XDP_REDIRECT 4), the packet as it is then, and the nanoseconds that
        one run took on average.
    """
    out = ctypes.create_string_buffer(4096)
    given = ctypes.create_string_buffer(packet, len(packet))
    # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    context = (c_uint32 * 6)(0, len(packet), 0, ifindex, 0, 0)
    run = TestRun(
        sz=ctypes.sizeof(TestRun),
        data_in=ctypes.addressof(given),
        data_size_in=len(packet),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        repeat=repeat,
    )
    if ifindex:
        run.ctx_in = ctypes.addressof(context)
        run.ctx_size_in = ctypes.sizeof(context)
    checked(library().bpf_prog_test_run_opts(program_fd, byref(run)), "test run")
    return run.retval, out.raw[: run.data_size_out], run.duration


test_run.__test__ = False  # type: ignore[attr-defined]
