"""The small changes that are made to C."""

import random
from pathlib import Path

import pytest

from mutation import c_places

SOURCE = """\
/* if (a < b) in a comment */
#define MOST (3 + 4)
enum port { SERVER, CLIENT };
static const int bounds[] = { 1, 2 };

static int some(struct thing *t, uint32_t size)
{
	const char *text = "a < b";
	uint32_t left = size;

	if (!t || left < 9)
		return -1;
	t->port = SERVER;
	note(t);
	return true;
}
"""


@pytest.fixture(name="found")
def _found(tmp_path: Path) -> dict[str, list[str]]:
    """By operator, the changed lines of all mutants."""
    (tmp_path / "some.c").write_text(SOURCE)
    found: dict[str, list[str]] = {}
    for place in c_places.places(tmp_path, "some.c", c_places.enumerations([SOURCE])):
        assert place.where == "some"
        for way in place.ways:
            only = c_places.Place(place.file, place.where, place.operator, place.start, place.end, (way,))
            found.setdefault(place.operator, []).append(c_places.mutant(tmp_path, only, random.Random(1)).new)
    return found


@pytest.mark.parametrize(
    ("operator", "changes"),
    [
        ("Sign", [f"if (!t || left {sign} 9)" for sign in ("<=", ">", ">=", "==", "!=")] + ["if (!t && left < 9)"]),
        ("RemoveNot", ["if (t || left < 9)"]),
        ("Negation", ["if (!(!t || left < 9))"]),
        ("Number", ["if (!t || left < 10)", "if (!t || left < 8)", "return -2;", "return -0;"]),
        ("Enumeration", ["t->port = CLIENT;"]),
        ("RemoveStatement", [";", ";"]),
        ("Word", ["return false;"]),
        ("OtherSign", ["int32_t left = size;"]),
    ],
)
def test_in_a_function(found: dict[str, list[str]], operator: str, changes: list[str]) -> None:
    assert sorted(found[operator]) == sorted(changes)


def test_nothing_outside_of_functions_nor_in_text(found: dict[str, list[str]]) -> None:
    assert set(found) == {
        *("Sign", "RemoveNot", "Negation", "Number", "Enumeration", "RemoveStatement", "Word", "OtherSign")
    }
    assert not any("text" in change for changes in found.values() for change in changes)
