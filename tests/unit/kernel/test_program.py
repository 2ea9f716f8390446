"""Why the kernel took no program, in one sentence."""

import ctypes
import errno
from typing import Any

import pytest

from relayd.errors import UnavailableError
from relayd.forwarding.kernel import libbpf, program
from relayd.forwarding.kernel.libbpf import BpfError, LibraryMissingError, checked
from relayd.forwarding.kernel.program import KernelProgram, Sizes, explain_load
from tests.scenarios.skips import needs_kernel

REFUSED = ["libbpf: load", "-- BEGIN PROG LOAD LOG --\n0: R1=ctx\n  invalid access to packet  \n\n", " \n"]


@pytest.mark.parametrize(
    ("number", "log", "says"),
    [
        (errno.EPERM, [], "no right to load kernel programs: give relayd CAP_BPF"),
        (errno.EACCES, ["libbpf: some words"], "no right to load kernel programs: give relayd CAP_BPF"),
        (errno.ENOSYS, [], "this kernel has no BPF"),
        (errno.ENOMEM, [], "the kernel has no memory for the maps"),
        (errno.E2BIG, [], "the kernel has no memory for the maps"),
        (errno.EACCES, REFUSED, "refuses the program (load: Permission denied)"),
        (errno.E2BIG, REFUSED, "refuses the program (load: Argument list too long)"),
        (errno.EINVAL, [], "Its last word: nothing"),
        (errno.EINVAL, REFUSED, "Its last word: invalid access to packet"),
        (errno.EINVAL, ["first", "second"], "Its last word: second"),
    ],
)
def test_what_the_kernel_said_and_what_to_do(
    number: int, log: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libbpf, "log", log)
    assert says in explain_load(BpfError(number, "load"))


def test_only_what_is_negative_is_an_error() -> None:
    assert [checked(0, "ask"), checked(7, "ask")] == [0, 7]
    for left in (0, errno.EINVAL):
        ctypes.set_errno(left)
        with pytest.raises(BpfError, match="ask: ") as raised:
            checked(-errno.ENOENT, "ask")
        assert raised.value.errno == errno.ENOENT
        for failed in (-1, None):
            with pytest.raises(BpfError) as raised:
                checked(failed, "ask")
            assert raised.value.errno == left


def test_a_host_without_libbpf_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise LibraryMissingError("libbpf.so.1 cannot be loaded")

    monkeypatch.setattr(program, "library", missing)
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        KernelProgram.load(Sizes(1, 1))


@needs_kernel
def test_a_size_that_libbpf_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: -errno.EBUSY) if name == "bpf_map__set_max_entries" else getattr(libbpf.library(), name)

    monkeypatch.setattr(program, "library", Refusing)
    with pytest.raises(UnavailableError, match="size of map pairs"):
        KernelProgram.load(Sizes(1, 1))


@needs_kernel
def test_what_libbpf_said_is_kept() -> None:
    with pytest.raises(UnavailableError, match=r"libbpf cannot read the kernel program: libbpf: .*ELF"):
        KernelProgram.load(Sizes(1, 1), content=b"no program")
