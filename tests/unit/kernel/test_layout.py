"""The layout in Python is that of the program, by the types that its object carries, and so are its numbers."""

import ctypes
import re
import struct
from importlib import resources

from relayd.core import wire
from relayd.core.verdict import Verdict
from relayd.forwarding.kernel.layout import LAYOUT_VERSION, STRUCTURES, ControlFlag, InterfaceMode

FOLDER = resources.files("relayd.forwarding.kernel")
SOURCE = FOLDER.joinpath("relay.bpf.c").read_text(encoding="utf-8")

_SECTION = struct.Struct("<IIQQQQIIQQ")
_EXTRA_BYTES = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_MEMBER_BYTES = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_STRUCT = 4


def section(name: str) -> bytes:
    """A section of the ELF object."""
    elf = FOLDER.joinpath("relay.bpf.o").read_bytes()
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [_SECTION.unpack_from(elf, offset + number * size) for number in range(count)]
    strings = elf[headers[names][4] :]
    for header in headers:
        if strings[header[0] : strings.index(b"\0", header[0])].decode() == name:
            return elf[header[4] : header[4] + header[5]]
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


def test_every_structure_is_the_same_to_the_byte() -> None:
    in_c = structures()
    for name, structure in STRUCTURES.items():
        size, offsets = in_c[name]
        assert size == ctypes.sizeof(structure), name
        in_python = {
            field[0].rstrip("_"): getattr(structure, field[0]).offset
            for field in structure._fields_
            if field[0] != "padding"
        }
        assert in_python == offsets, name


def test_every_structure_is_checked() -> None:
    assert {"control", "pair", "binding", "state", "session", "total"} <= structures().keys()


def defined(name: str) -> int:
    found = re.search(rf"^#define {name} (\d+)", SOURCE, re.MULTILINE)
    assert found is not None
    return int(found[1])


def enumerated(name: str) -> int:
    found = re.search(rf"^\t{name} = (\d+)", SOURCE, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_numbers_are_the_same() -> None:
    assert defined("LAYOUT_VERSION") == LAYOUT_VERSION
    for name in ("PING", "DATA", "HEADER_BYTES", "HOST_DATA_HEADER_BYTES", "MAX_DATAGRAM_BYTES"):
        assert defined(name) == getattr(wire, name), name
    assert defined("STATE_VALID") == wire.State.VALID
    assert enumerated("VERDICTS") == len(Verdict)
    in_c = re.search(r"enum verdict \{(.*?)\}", SOURCE, re.DOTALL)
    assert in_c is not None
    for name, value in re.findall(r"(\w+) = (\d+)", in_c[1]):
        if name != "VERDICTS":
            assert Verdict[name] == int(value)
    assert enumerated("PIN_IP") == ControlFlag.PIN_IP
    assert enumerated("PAIRS_INCOMPLETE") == ControlFlag.PAIRS_INCOMPLETE
    assert "{ NATIVE = 1, GENERIC = 2 }" in SOURCE
    assert (InterfaceMode.NATIVE, InterfaceMode.GENERIC) == (1, 2)
