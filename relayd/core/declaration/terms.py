"""The words in which layouts are declared, and what follows from them: offsets, sizes, formats, a digest.

All is little-endian, and members stand where C puts them (System V ABI): each at a multiple of its own alignment, the
whole as long as a multiple of the largest. A hole between two members is an error, so that every byte has a name.
"""

import enum
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol


class Declared(Protocol):
    """Something that belongs to a layout."""

    def described(self) -> Iterator[str]:
        """The text that the digest is of: all that may differ between versions."""


class Amount(NamedTuple):
    """A number with a name in C."""

    name: str
    value: int


@dataclass(frozen=True)
class Scalar:
    """A type of a member that has no members."""

    name: str
    c: str
    """In C, without the brackets of an array."""
    format: str
    """Of the module struct; `s` for what Python does not calculate with."""
    c_count: int = 0
    """Of an array in C; 0 for none."""

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return struct.calcsize(f"<{self.format}")

    @property
    def align_bytes(self) -> int:
        """Its alignment."""
        return self.size_bytes // (self.c_count or 1)

    def described(self) -> Iterator[str]:
        """Nothing that its name does not say."""
        yield from ()


U8 = Scalar("u8", "__u8", "B")
U16 = Scalar("u16", "__u16", "H")
U32 = Scalar("u32", "__u32", "I")
U64 = Scalar("u64", "__u64", "Q")
F64 = Scalar("f64", "double", "d")
BOOL = Scalar("bool", "__u8", "?")
NETWORK_U16 = Scalar("network u16", "__be16", "2s")
"""In network order."""
IP = Scalar("ip", "__u32", "16s", 4)
"""An IP address in network order."""


def some_bytes(count: int) -> Scalar:
    """So many opaque bytes."""
    return Scalar(f"{count} bytes", "__u8", f"{count}s", count)


@dataclass(frozen=True)
class Field:
    """A member."""

    name: str
    type: "Scalar | Struct"
    comment: str = ""
    count: Amount | None = None
    """Of an array."""

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return self.type.size_bytes * (self.count.value if self.count else 1)


@dataclass(frozen=True)
class Struct:
    """Members one after another."""

    name: str
    fields: tuple[Field, ...]
    comment: str = ""
    aligned_bytes: int = 1
    """At least; more than its members ask for."""

    def __post_init__(self) -> None:
        if len({field.name for field in self.fields}) != len(self.fields):
            raise ValueError(f"struct {self.name}: two members have one name")
        for field in self.fields:
            if self.offsets[field.name] % field.type.align_bytes:
                raise ValueError(f"struct {self.name}: a hole before {field.name}")

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each member begins, in bytes."""
        found, at = {}, 0
        for field in self.fields:
            found[field.name] = at
            at += field.size_bytes
        return found

    @property
    def align_bytes(self) -> int:
        """Its alignment."""
        return max(self.aligned_bytes, *(field.type.align_bytes for field in self.fields))

    @property
    def used_bytes(self) -> int:
        """Up to the end of the last member."""
        return sum(field.size_bytes for field in self.fields)

    @property
    def size_bytes(self) -> int:
        """From one to the next in an array."""
        return -(-self.used_bytes // self.align_bytes) * self.align_bytes

    @property
    def format(self) -> str:
        """Of the module struct, without what follows the last member; `<` is to stand before it."""
        found = ""
        for field in self.fields:
            tail_bytes = field.type.size_bytes - field.type.used_bytes if isinstance(field.type, Struct) else 0
            one = field.type.format + f"{tail_bytes}x" * (tail_bytes > 0)
            found += one * (field.count.value if field.count else 1)
        return found

    def packing(self, first: str = "", last: str = "") -> struct.Struct:
        """For the members from `first` to `last`; all without them."""
        names = [field.name for field in self.fields]
        start = names.index(first) if first else 0
        end = names.index(last) + 1 if last else len(names)
        return struct.Struct("<" + Struct(self.name, self.fields[start:end]).format)

    def described(self) -> Iterator[str]:
        """Its members and theirs."""
        yield f"struct {self.name} {self.size_bytes} bytes"
        for field in self.fields:
            count = field.count.value if field.count else 1
            yield f"- {field.name}: {field.type.name} * {count} at {self.offsets[field.name]}"
        for field in self.fields:
            yield from field.type.described()


@dataclass(frozen=True)
class Numbers:
    """An enumeration whose numbers are part of a layout."""

    name: str
    members: type[enum.IntEnum] | type[enum.IntFlag]
    prefix: str = ""
    """Before each name in C."""
    count: str = ""
    """Name in C for how many there are, where they index something."""

    def described(self) -> Iterator[str]:
        """Names and numbers."""
        yield f"enum {self.name}"
        yield from (f"- {member.name} = {member.value}" for member in self.members)

    @property
    def amount(self) -> Amount:
        """How many there are."""
        return Amount(self.count, len(self.members))


@dataclass(frozen=True)
class Constant:
    """A number that several languages have."""

    name: str
    value: int
    comment: str = ""

    def described(self) -> Iterator[str]:
        """Name and number."""
        yield f"constant {self.name} = {self.value}"


@dataclass(frozen=True)
class Row:
    """Numbers in an order that matters."""

    name: str
    values: tuple[int, ...]
    comment: str = ""

    def described(self) -> Iterator[str]:
        """All of them."""
        yield f"row {self.name} = {self.values}"


class Room(enum.Enum):
    """How many entries a map has that grows with the number of users: the loader says."""

    AUTHORIZED = "authorized users"
    SLOTS = "bindings, and slot 0, which is never used"


class MapKind(enum.IntEnum):
    """Of BPF maps: `enum bpf_map_type` of linux/bpf.h."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LPM_TRIE = 11


class MapFlag(enum.IntFlag):
    """Of BPF maps: linux/bpf.h."""

    NO_PREALLOC = 1 << 0
    MMAPABLE = 1 << 10


NO_FLAGS = MapFlag(0)


@dataclass(frozen=True)
class Map:
    """A BPF map."""

    name: str
    kind: MapKind
    key: Scalar | Struct
    value: Scalar | Struct
    entries: int | Room
    flags: MapFlag = NO_FLAGS
    comment: str = ""

    def described(self) -> Iterator[str]:
        """All that the kernel makes it by, and what is in it."""
        entries = self.entries.name if isinstance(self.entries, Room) else self.most_entries(0)
        yield f"map {self.name}: {self.kind.name} of {self.key.name} to {self.value.name}"
        yield f"- {self.key.size_bytes} and {self.value.size_bytes} bytes, {entries} entries, flags {int(self.flags)}"
        yield from self.key.described()
        yield from self.value.described()

    def most_entries(self, room: int) -> int:
        """max_entries of the map; `room` where the loader decides."""
        return room if isinstance(self.entries, Room) else self.entries


@dataclass(frozen=True)
class Area:
    """A part of a file or of a memory."""

    name: str
    at: int
    """Where it begins, in bytes."""
    content: Scalar | Struct
    count: int = 1

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return self.content.size_bytes * self.count

    @property
    def end(self) -> int:
        """Where the next may begin."""
        return self.at + self.size_bytes

    def described(self) -> Iterator[str]:
        """Where it is and what is in it."""
        yield f"area {self.name}: {self.content.name} * {self.count} at {self.at}"
        yield from self.content.described()


@dataclass(frozen=True)
class Layout:
    """What two sides have to have in common; its digest tells two of them apart."""

    name: str
    parts: tuple[Declared, ...]

    @cached_property
    def digest(self) -> int:
        """64 bits that change with everything that is declared of it."""
        text = "\n".join(line for part in self.parts for line in part.described())
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
