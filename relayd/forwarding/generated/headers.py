"""The headers as text, each from the module of the core that it is named after."""

import textwrap
from collections.abc import Callable, Iterable, Iterator

from relayd.core import verdict, wire
from relayd.core.declaration import kernel_maps, thread
from relayd.core.declaration.common import DUES, PINGS, PORTS, RATE, STATES, TOTAL, VERDICTS
from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import Constant, Field, Map, MapFlag, Numbers, Row, Scalar, Struct
from relayd.forwarding.generated.comments import texts_below

_COLUMNS = 116
_GROWING = "max_entries of the maps that grow with the number of users are set by the loader."
SHARED = (RATE, DUES, PINGS, TOTAL, thread.COUNTS)
"""Structures of the thread, most of which the kernel program has too."""
KERNEL = (
    kernel_maps.CONTROL,
    kernel_maps.PAIR_KEY,
    kernel_maps.PAIR,
    kernel_maps.BINDING,
    kernel_maps.PLACE,
    kernel_maps.RUN_TIMES,
    kernel_maps.NEXT_HOP,
    kernel_maps.STATE,
    kernel_maps.SESSION,
    kernel_maps.CONNECTION_KEY,
    kernel_maps.ADDRESS,
    kernel_maps.SEARCH,
    kernel_maps.NETWORK_KEY,
    kernel_maps.TRIED_KEY,
    kernel_maps.TAKEN_OVER,
)
"""Structures of the kernel program alone, each after those that it has members of."""


def wire_header() -> str:
    """Numbers of the wire, ports, states."""
    texts = texts_below(wire)
    lines = [
        *_constants(Constant(one.name, one.value, _first_sentence(texts.get(one.name, ""))) for one in thread.WIRE),
        "",
        *_enum(PORTS, texts),
        "",
        *_enum(STATES, texts),
    ]
    return _header("wire", "relayd/core/wire.py", (), lines)


def verdict_header() -> str:
    """What can become of a datagram."""
    lines = [
        *_enum(VERDICTS, texts_below(verdict)),
        "",
        "/* Names by number, to begin an array with. */",
        *_macro("VERDICT_LABELS", (f'[{one.name}] = "{one.label}"' for one in verdict.Verdict)),
    ]
    return _header("verdict", "relayd/core/verdict.py", (), lines)


def layout_header() -> str:
    """What the thread shares with Python, and with the kernel program."""
    lines = [
        *_constants((thread.VERSION,), digits="#018x"),
        "",
        *_constants(thread.TIMES, suffix="ull"),
        "",
        *_row(thread.DELAY_BOUNDS_NS, "DELAY_BUCKETS"),
        *_structures(SHARED),
    ]
    return _header("layout", "relayd/core/declaration", ("<linux/types.h>", '"verdict.h"', '"wire.h"'), lines)


def maps_header() -> str:
    """The maps of the kernel program, and what is in them."""
    lines = [
        *_constants((kernel_maps.VERSION,), digits="#018x"),
        *_constants(kernel_maps.TIMES, suffix="ull"),
    ]
    for numbers in (kernel_maps.CONTROL_FLAGS, kernel_maps.PASSED_UP, kernel_maps.INTERFACE_MODES):
        lines += ["", *_enum(numbers, texts_below(kernel_maps))]
    lines += [*_structures(KERNEL), "", *_comment(_GROWING)]
    for one in MAPS:
        lines += ["", *_map(one)]
    includes = ("<linux/bpf.h>", "<bpf/bpf_helpers.h>", '"layout.h"')
    return _header("maps", "relayd/core/declaration/kernel_maps.py", includes, lines)


HEADERS: dict[str, Callable[[], str]] = {
    "wire.h": wire_header,
    "verdict.h": verdict_header,
    "layout.h": layout_header,
    "maps.h": maps_header,
}


def _header(name: str, source: str, includes: Iterable[str], lines: Iterable[str]) -> str:
    guard = f"RELAYD_GENERATED_{name.upper()}_H"
    written = [
        f"/* Written from {source} by `make generate`: not to be edited. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
    ]
    written += [f"#include {include}" for include in includes]
    if written[-1]:
        written.append("")
    written += [*lines, "", "#endif", ""]
    return "\n".join(written)


def _constants(constants: Iterable[Constant], digits: str = "", suffix: str = "") -> Iterator[str]:
    for one in constants:
        if one.comment:
            yield from _comment(one.comment)
        # Unsigned where it does not fit into an int.
        wide = "" if one.value < 1 << 31 else "u" if one.value < 1 << 32 else "ull"
        yield f"#define {one.name} {format(one.value, digits)}{suffix or wide}"


def _enum(numbers: Numbers, texts: dict[str, str]) -> Iterator[str]:
    yield f"enum {numbers.name} {{"
    for member in numbers.members:
        if text := texts.get(str(member.name)):
            yield from _comment(text, "\t")
        yield f"\t{numbers.prefix}{member.name} = {member.value},"
    if numbers.count:
        yield f"\t{numbers.count} = {len(numbers.members)},"
    yield "};"


def _row(row: Row, count: str) -> Iterator[str]:
    yield from _comment(row.comment)
    yield f"#define {count} {len(row.values)}"
    # As clang-format has it: as many in a line as there is room for.
    lines = textwrap.wrap(", ".join(map(str, row.values)), _COLUMNS - 12)
    yield from _macro(row.name, (line.removesuffix(",") for line in lines))


def _macro(name: str, items: Iterable[str]) -> Iterator[str]:
    yield f"#define {name} \\"
    yield "\t{ \\"
    yield from (f"\t\t{item}, \\" for item in items)
    yield "\t}"


def _structures(structures: Iterable[Struct]) -> Iterator[str]:
    """Each with what the compiler has to make of it."""
    for structure in structures:
        yield ""
        yield from _struct(structure)
        yield from _assertions(structure)


def _struct(structure: Struct) -> Iterator[str]:
    if structure.comment:
        yield from _comment(structure.comment)
    yield f"struct {structure.name} {{"
    for field in structure.fields:
        if field.comment:
            yield from _comment(field.comment, "\t")
        yield f"\t{_member(field)};"
    aligned = f" __attribute__((aligned({structure.aligned_bytes})))" if structure.aligned_bytes > 1 else ""
    yield f"}}{aligned};"


def _member(field: Field) -> str:
    count = f"[{field.count.name}]" if field.count else ""
    if isinstance(field.type, Scalar):
        return f"{field.type.c} {field.name}{count}" + (f"[{field.type.c_count}]" if field.type.c_count else "")
    return f"struct {field.type.name} {field.name}{count}"


def _assertions(structure: Struct) -> Iterator[str]:
    name = structure.name
    yield f'_Static_assert(sizeof(struct {name}) == {structure.size_bytes}, "struct {name}");'
    for field, offset in structure.offsets.items():
        yield f'_Static_assert(__builtin_offsetof(struct {name}, {field}) == {offset}, "{field}");'


def _map(one: Map) -> Iterator[str]:
    if one.comment:
        yield from _comment(one.comment)
    yield "struct {"
    yield f"\t__uint(type, BPF_MAP_TYPE_{one.kind.name});"
    for flag in MapFlag:
        if flag in one.flags:
            yield f"\t__uint(map_flags, BPF_F_{flag.name});"
    yield f"\t__uint(max_entries, {one.most_entries(1)});"
    yield f"\t__type(key, {_type(one.key)});"
    yield f"\t__type(value, {_type(one.value)});"
    yield f'}} {one.name} SEC(".maps");'


def _type(of: Scalar | Struct) -> str:
    return of.c if isinstance(of, Scalar) else f"struct {of.name}"


def _comment(text: str, indent: str = "") -> Iterator[str]:
    lines = textwrap.wrap(text, _COLUMNS - 8 * len(indent))
    yield f"{indent}/* {lines[0]}" + (" */" if len(lines) == 1 else "")
    for number, line in enumerate(lines[1:], 2):
        yield f"{indent} * {line}" + (" */" if number == len(lines) else "")


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0]
