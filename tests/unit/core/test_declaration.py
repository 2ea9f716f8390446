"""Layouts as they are declared: every change of one gives another digest, and what cannot be is an error."""

import dataclasses
import enum
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relayd.core import counters, wire
from relayd.core.declaration import common, kernel_maps, state_file, terms, thread
from relayd.core.declaration.terms import U8, U16, U32, U64, Amount, Area, Field, Layout, Map, Numbers, Room, Struct
from relayd.core.verdict import Verdict
from relayd.state.layout import Identity

LAYOUTS = [kernel_maps.LAYOUT, state_file.LAYOUT, thread.LAYOUT]


def replaced(one: Any, old: Any, new: Any) -> Any:
    """The same declaration with something else in the place of `old`, however deep it is."""
    if one is old:
        return new
    if isinstance(one, tuple) and type(one) is tuple:
        return tuple(replaced(part, old, new) for part in one)
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        changes = {field.name: replaced(getattr(one, field.name), old, new) for field in dataclasses.fields(one)}
        return type(one)(**changes)
    return one


def parts_of(one: Any) -> Iterator[Any]:
    """Everything that a declaration is made of."""
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        yield one
        for field in dataclasses.fields(one):
            yield from parts_of(getattr(one, field.name))
    elif type(one) is tuple:
        for part in one:
            yield from parts_of(part)


def parts(kind: type) -> list[Any]:
    """All of that kind in all layouts, each with a layout that it is in."""
    return [(layout, part) for layout in LAYOUTS for part in parts_of(layout.parts) if isinstance(part, kind)]


def assert_other_digest(layout: Layout, old: Any, new: Any) -> None:
    assert replaced(layout, old, new).digest != layout.digest, f"{old} → {new}"


def renamed(members: type[enum.IntEnum] | type[enum.IntFlag], old: str) -> dict[str, int]:
    return {f"{name}_NEW" if name == old else name: int(member) for name, member in members.__members__.items()}


def test_the_same_declaration_has_the_same_digest() -> None:
    for layout in LAYOUTS:
        assert replaced(layout, None, None).digest == layout.digest
    assert len({layout.digest for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize("kind", [Struct, Map, Area, Numbers, terms.Constant, terms.Row])
def test_another_name_is_another_layout(kind: type) -> None:
    for layout, part in parts(kind):
        assert_other_digest(layout, part, dataclasses.replace(part, name=f"{part.name}_new"))


def test_another_name_of_a_member_is_another_layout() -> None:
    for layout, field in parts(Field):
        assert_other_digest(layout, field, dataclasses.replace(field, name=f"{field.name}_new"))


def test_another_order_of_members_is_another_layout() -> None:
    for layout, one in parts(Struct):
        for first in range(len(one.fields) - 1):
            before, left, right = one.fields[:first], one.fields[first], one.fields[first + 1]
            try:
                other = dataclasses.replace(one, fields=(*before, right, left, *one.fields[first + 2 :]))
            except ValueError:
                continue  # with a hole
            assert_other_digest(layout, one, other)


def test_another_length_is_another_layout() -> None:
    for layout, one in parts(Map):
        if isinstance(one.value, Struct):
            assert_other_digest(layout, one.value, dataclasses.replace(one.value, aligned_bytes=256))
    for layout, field in parts(Field):
        more = Amount("more", (field.count.value if field.count else 1) + 64)
        assert_other_digest(layout, field, dataclasses.replace(field, count=more))


def test_one_more_member_is_another_layout() -> None:
    for layout, one in parts(Struct):
        more = [Field(f"more_{number}", U8) for number in range(64)]
        assert_other_digest(layout, one, dataclasses.replace(one, fields=(*one.fields, *more)))


def test_another_type_of_the_same_length_is_another_layout() -> None:
    for layout, field in parts(Field):
        if field.type is U64:
            assert_other_digest(layout, field, dataclasses.replace(field, type=terms.F64))


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"kind": terms.MapKind.LRU_HASH if one.kind is terms.MapKind.HASH else terms.MapKind.HASH},
        lambda one: {"entries": 12 if isinstance(one.entries, Room) else one.most_entries(0) + 1},
        lambda one: {"entries": Room.AUTHORIZED if one.entries is Room.SLOTS else Room.SLOTS},
        lambda one: {"flags": one.flags ^ terms.MapFlag.MMAPABLE},
        lambda one: {"key": U16},
        lambda one: {"value": U8},
    ],
    ids=["kind", "entries", "room", "flags", "key", "value"],
)
def test_another_map_is_another_layout(change: Callable[[Map], dict[str, Any]]) -> None:
    for layout, one in parts(Map):
        assert_other_digest(layout, one, dataclasses.replace(one, **change(one)))


def test_another_place_in_a_file_is_another_layout() -> None:
    for layout, area in parts(Area):
        assert_other_digest(layout, area, dataclasses.replace(area, at=area.at + 8))
        assert_other_digest(layout, area, dataclasses.replace(area, count=area.count + 1))


def test_other_numbers_are_another_layout() -> None:
    for layout, numbers in parts(Numbers):
        members = numbers.members.__members__
        for name in members:
            other: Any = enum.IntEnum(numbers.name, renamed(numbers.members, name))  # type: ignore[misc]
            assert_other_digest(layout, numbers, dataclasses.replace(numbers, members=other))
        swapped: Any = enum.IntEnum(numbers.name, dict(zip(members, reversed(list(members.values())), strict=True)))  # type: ignore[misc]
        assert_other_digest(layout, numbers, dataclasses.replace(numbers, members=swapped))
    for layout, one in [*parts(terms.Constant)]:
        assert_other_digest(layout, one, dataclasses.replace(one, value=one.value + 1))
    for layout, row in parts(terms.Row):
        assert_other_digest(layout, row, dataclasses.replace(row, values=row.values[:-1]))


def test_a_new_verdict_is_another_version_of_every_layout() -> None:
    members = {verdict.name: verdict.value for verdict in Verdict} | {"SOMETHING_NEW": len(Verdict)}
    verdicts: Any = enum.IntEnum("Verdict", members)  # type: ignore[misc]
    more = dataclasses.replace(common.VERDICTS, members=verdicts)
    for layout in LAYOUTS:
        assert_other_digest(layout, common.VERDICTS, more)
    # And the maps by port and verdict are longer with it, of themselves.
    by_verdict = [one for one in kernel_maps.MAPS if one.value is common.TOTAL]
    assert [one.most_entries(0) for one in by_verdict] == [len(wire.Port) * len(Verdict)] * 2


def test_words_about_it_are_no_part_of_it() -> None:
    for layout, field in parts(Field):
        assert replaced(layout, field, dataclasses.replace(field, comment="other words")).digest == layout.digest


def test_a_hole_between_members_is_an_error() -> None:
    with pytest.raises(ValueError, match="struct one: a hole before b"):
        Struct("one", (Field("a", U32), Field("b", U64)))
    with pytest.raises(ValueError, match="two members have one name"):
        Struct("one", (Field("a", U32), Field("a", U32)))


def test_a_format_is_as_long_as_its_members() -> None:
    for _, one in parts(Struct):
        assert struct.calcsize(f"<{one.format}") == one.used_bytes <= one.size_bytes


def test_the_areas_of_the_state_file_do_not_overlap() -> None:
    at = 0
    for area in state_file.AREAS:
        assert area.at >= at, area.name
        at = area.end
    assert state_file.RECORDS_AREA.at % 64 == 0
    assert state_file.RECORD.size_bytes % 64 == state_file.RECORD.offsets["counts"] % 64 == 0


def test_python_has_what_is_declared() -> None:
    """Where the members are attributes, and their order is what is written."""
    assert set(counters.Traffic.__slots__) == {field.name for field in common.TRAFFIC}
    assert set(counters.Counters.__slots__) == {field.name for field in common.PORT_COUNTERS.fields}
    assert state_file.COUNTERS_AREA.size_bytes == counters.Counters.MEMORY_BYTES
    declared = [field.name for field in state_file.IDENTITY.fields]
    assert list(Identity._fields) == declared


def test_the_digest_stands_where_every_version_looks_for_it() -> None:
    assert kernel_maps.CONTROL.offsets["layout"] == 0
    assert state_file.HEADER.offsets["layout"] == 8


def test_what_follows_the_last_member_is_skipped_in_an_array_whatever_its_length() -> None:
    one = Struct("one", (Field("a", U32), Field("b", U16), Field("c", U8)))
    several = Struct("several", (Field("of", one, count=Amount("TWO", 2)),))
    assert struct.unpack(f"<{several.format}", struct.pack("<IHBxIHBx", 1, 2, 3, 4, 5, 6)) == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("area", [part for part in state_file.LAYOUT.parts if isinstance(part, Area)])
def test_the_words_of_the_state_file_stand_where_a_processor_reads_them_whole(area: Area) -> None:
    assert area.at % 8 == 0
