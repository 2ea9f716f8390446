"""The maps are as declared: in the object, by its types and its digest, in user space, and in the kernel."""

import ctypes
import struct
from importlib import resources

import pytest

from relayd.core.declaration import kernel_maps
from relayd.core.declaration.common import DUES, RATE
from relayd.core.declaration.terms import Struct
from relayd.forwarding.generated.headers import KERNEL
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.scenarios.skips import needs_kernel

OBJECT = resources.files("relayd.forwarding.kernel").joinpath("relay.bpf.o").read_bytes()

_SECTION = struct.Struct("<IIQQQQIIQQ")
_EXTRA_BYTES = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_MEMBER_BYTES = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_STRUCT = 4


def section(name: str) -> bytes:
    """A section of the ELF object."""
    (offset,) = struct.unpack_from("<Q", OBJECT, 40)
    size, count, names = struct.unpack_from("<HHH", OBJECT, 58)
    headers = [_SECTION.unpack_from(OBJECT, offset + number * size) for number in range(count)]
    strings = OBJECT[headers[names][4] :]
    for header in headers:
        if strings[header[0] : strings.index(b"\0", header[0])].decode() == name:
            return OBJECT[header[4] : header[4] + header[5]]
    raise AssertionError(name)


def structures() -> dict[str, tuple[int, dict[str, int]]]:
    """Size and members' offsets of every struct in the object's BTF (Documentation/bpf/btf.rst)."""
    btf = section(".BTF")
    header_bytes, types_at, types_bytes, strings_at = struct.unpack_from("<4I", btf, 4)
    strings = btf[header_bytes + strings_at :]
    found = {}
    at, end = header_bytes + types_at, header_bytes + types_at + types_bytes
    while at < end:
        name_at, information, size = struct.unpack_from("<III", btf, at)
        kind, members = information >> 24 & 0x1F, information & 0xFFFF
        at += 12
        offsets = {}
        for _ in range(members if kind == _STRUCT else 0):
            member_at, _, bits = struct.unpack_from("<III", btf, at)
            offsets[text(strings, member_at)] = (bits & 0xFFFFFF) // 8
            at += 12
        if kind == _STRUCT:
            found[text(strings, name_at)] = size, offsets
        else:
            at += _EXTRA_BYTES.get(kind, 0) + members * _PER_MEMBER_BYTES.get(kind, 0)
    return found


def text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


def test_the_object_was_compiled_for_these_maps() -> None:
    (digest,) = struct.unpack("<Q", section("layout"))
    assert digest == layout.DIGEST, "the object in the tree is of another declaration: run make generate"


@pytest.mark.parametrize("declared", KERNEL, ids=lambda declared: declared.name)
def test_a_structure_of_the_program_is_as_declared(declared: Struct) -> None:
    assert structures()[declared.name] == (declared.size_bytes, declared.offsets)


@pytest.mark.parametrize(
    ("structure", "declared"),
    [
        (layout.Rate, RATE),
        (layout.Dues, DUES),
        (layout.Control, kernel_maps.CONTROL),
        (layout.PairKey, kernel_maps.PAIR_KEY),
        (layout.Pair, kernel_maps.PAIR),
        (layout.Binding, kernel_maps.BINDING),
        (layout.NextHop, kernel_maps.NEXT_HOP),
        (layout.State, kernel_maps.STATE),
        (layout.Session, kernel_maps.SESSION),
        (layout.ConnectionKey, kernel_maps.CONNECTION_KEY),
    ],
)
def test_a_structure_of_user_space_is_as_declared(
    structure: type[ctypes.LittleEndianStructure], declared: Struct
) -> None:
    assert ctypes.sizeof(structure) == declared.size_bytes
    assert {field.name: getattr(structure, field.name).offset for field in declared.fields} == declared.offsets


@needs_kernel
def test_every_map_is_made_as_declared() -> None:
    sizes = Sizes(authorized=7, bound=5)
    program = KernelProgram.load(sizes)
    try:
        assert program.maps.keys() == {declared.name for declared in kernel_maps.MAPS}
        for declared in kernel_maps.MAPS:
            there = program.map(declared.name)
            assert (there.kind, there.flags) == (declared.kind, declared.flags), declared.name
            assert there.key_bytes == declared.key.size_bytes, declared.name
            assert there.value_bytes == declared.value.size_bytes, declared.name
            assert there.max_entries == sizes.entries(declared), declared.name
    finally:
        program.close()
