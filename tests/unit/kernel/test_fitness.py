"""Whether pinned maps are gone on with: only if each is exactly the one that this relay would make."""

from collections.abc import Callable

import pytest

from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import Map, MapKind
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.fast_path import control
from relayd.forwarding.kernel.fitness import misfit
from relayd.forwarding.kernel.program import Sizes
from relayd.settings import Settings

SIZES = Sizes(authorized=100, bound=20)
SETTINGS = Settings()


class FakeMap:
    """A map as the kernel would say that it is, with the program's settings in it."""

    def __init__(self, declared: Map, content: bytes) -> None:
        self.name = declared.name
        self.kind: int = declared.kind
        self.key_bytes = declared.key.size_bytes
        self.value_bytes = declared.value.size_bytes
        self.max_entries = SIZES.entries(declared)
        self.flags: int = declared.flags
        self.content: bytes | None = content

    def lookup(self, key: bytes) -> bytes | None:
        assert (self.kind, len(key)) == (MapKind.ARRAY, self.key_bytes), "read as what it is not"
        return self.content


Maps = dict[str, FakeMap]


def wanted() -> layout.Control:
    return control(SETTINGS, layout.ControlFlag(0))


def pinned() -> Maps:
    return {declared.name: FakeMap(declared, bytes(wanted())) for declared in MAPS}


def why(maps: Maps) -> str:
    return misfit(maps, wanted(), SIZES)  # type: ignore[arg-type]


def test_its_own_are_gone_on_with() -> None:
    assert why(pinned()) == ""


@pytest.mark.parametrize("declared", MAPS, ids=lambda declared: declared.name)
@pytest.mark.parametrize("what", ["kind", "key_bytes", "value_bytes", "max_entries", "flags"])
def test_one_that_differs_in_anything_is_not(what: str, declared: Map) -> None:
    maps = pinned()
    setattr(maps[declared.name], what, getattr(maps[declared.name], what) + 1)
    assert why(maps).startswith(f"map {declared.name} is ")


def test_totals_of_a_verdict_less_are_not_gone_on_with() -> None:
    maps = pinned()
    maps["totals_taken_over"].max_entries -= 2
    assert why(maps).startswith("map totals_taken_over is of another size")


@pytest.mark.parametrize("declared", MAPS, ids=lambda declared: declared.name)
def test_one_that_is_missing_is_named(declared: Map) -> None:
    maps = pinned()
    del maps[declared.name]
    assert why(maps) == f"maps missing or unknown: {declared.name}"


def test_one_that_nobody_knows_is_named() -> None:
    maps = pinned()
    maps["more"] = maps["ended"]
    assert why(maps) == "maps missing or unknown: more"


@pytest.mark.parametrize("length", [0, 4, 8, 96, 104, 200])
def test_what_0_1_0_left_is_of_another_layout(length: int) -> None:
    """Its version and its flags stood where the digest stands now, in maps of other lengths."""
    maps = pinned()
    maps["control"].content = ((6).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(200))[:length]
    maps["control"].value_bytes = length
    del maps["totals_taken_over"]
    assert why(maps).startswith("it has layout 000000" if length < 8 else "it has layout 0000000300000006, this is ")


def test_one_that_was_never_written_to_is_of_another_layout() -> None:
    maps = pinned()
    maps["control"].content = None
    assert why(maps).startswith("it has layout 0000000000000000")


@pytest.mark.parametrize(
    "change",
    [
        lambda before: before.ports[0].__setitem__(0, 1),
        lambda before: before.ports[1].__setitem__(1, before.ports[1][1] ^ 1),
        lambda before: setattr(before, "bind_digest", 1),
    ],
)
def test_of_other_ports_or_addresses_they_are_not(change: Callable[[layout.Control], None]) -> None:
    maps, before = pinned(), wanted()
    change(before)
    maps["control"].content = bytes(before)
    assert why(maps) == "it is of other ports or addresses"


def test_other_limits_are_no_reason() -> None:
    maps, before = pinned(), wanted()
    before.rebind_after_ns += 1
    before.flags = layout.ControlFlag.PAIRS_INCOMPLETE
    maps["control"].content = bytes(before)
    assert why(maps) == ""
