"""Whether pinned maps are those that this relay would make: the one place that decides whether they are adopted."""

from collections.abc import Mapping

from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import MapKind
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.program import Sizes

_DIGEST_BYTES = 8
_BY_NAME = {declared.name: declared for declared in MAPS}


def misfit(maps: Mapping[str, BpfMap], wanted: layout.Control, sizes: Sizes) -> str:
    """Why a relay cannot adopt these maps; empty where it can.

    Args:
        maps: what is pinned, by name. May be anything.
        wanted: the settings of the program as this relay would write them.
        sizes: of the maps, by its settings.
    """
    digest = digest_of(maps.get("control"))
    if digest is not None and digest != layout.DIGEST:
        return f"it has layout {digest:016x}, this is {layout.DIGEST:016x}"
    if maps.keys() != _BY_NAME.keys():
        return f"maps missing or unknown: {', '.join(sorted(maps.keys() ^ _BY_NAME.keys()))}"
    for name, there in maps.items():
        if not is_as_declared(there):
            return f"map {name} is laid out otherwise"
    for declared in MAPS:
        there, entries = maps[declared.name].max_entries, sizes.entries(declared)
        if there != entries:
            return f"map {declared.name} is of another size: {there} entries, not {entries}"
    return "it is of other ports or addresses" if serves_otherwise(maps["control"], wanted) else ""


def serves_otherwise(there: BpfMap, wanted: layout.Control) -> bool:
    """Whether settings that the program has, laid out as in this version, are for other ports or addresses."""
    before = layout.Control.from_buffer_copy(there.lookup(bytes(4)) or bytes(layout.Control()))
    return (bytes(before.ports), before.bind_digest) != (bytes(wanted.ports), wanted.bind_digest)


def digest_of(control: BpfMap | None) -> int | None:
    """Which layout maps have, by the one that says so; None if it is not there or cannot say so.

    Where it stands never changes: what relayd 0.1.0 wrote there is 6, and its flags.
    """
    # Of another kind, more could be read than there is room for.
    if control is None or (control.kind, control.key_bytes) != (MapKind.ARRAY, 4):
        return None
    return int.from_bytes((control.lookup(bytes(4)) or b"")[:_DIGEST_BYTES], "little")


def is_as_declared(there: BpfMap) -> bool:
    """Whether it has entries such as the map of its name has in this version. How many is not looked at."""
    declared = _BY_NAME[there.name]
    return (there.kind, there.key_bytes, there.value_bytes, there.flags) == (
        declared.kind,
        declared.key.size_bytes,
        declared.value.size_bytes,
        declared.flags,
    )
