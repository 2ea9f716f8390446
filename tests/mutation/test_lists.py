"""What is written down of mutants speaks of the tree as it is."""

from pathlib import Path

import pytest

from mutation.lists import ACCEPTED, NAMED, Named, StaleEntryError, accepted, named

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("entry", named(ROOT), ids=lambda entry: str(entry.name))
def test_a_defect_with_a_name_can_still_be_made(entry: Named) -> None:
    mutant = entry.mutant(ROOT)
    assert mutant.source != (ROOT / entry.file).read_text("utf-8")
    assert entry.meaning.endswith(".")


def test_names_are_different() -> None:
    names = [entry.name for entry in named(ROOT)]
    assert len(set(names)) == len(names)


def test_each_accepted_survivor_still_stands_there_and_has_a_reason() -> None:
    entries = accepted(ROOT)
    assert all(entry.reason.endswith(".") for entry in entries)
    assert len({entry.key for entry in entries}) == len(entries)


def test_an_accepted_survivor_of_lines_that_are_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / ACCEPTED).parent.mkdir()
    (tmp_path / "some.py").write_text("def some():\n    return 1\n")
    entry = '[[mutant]]\nfile = "some.py"\nwhere = "some"\nold = "{}"\nnew = "return 3"\n'
    entry += 'kind = "equivalent"\nreason = "."\n'
    (tmp_path / ACCEPTED).write_text(entry.format("return 1"))
    assert [one.old for one in accepted(tmp_path)] == ["return 1"]
    (tmp_path / ACCEPTED).write_text(entry.format("return 2"))
    with pytest.raises(StaleEntryError, match=r"some\.py some no longer has 'return 2': take it out"):
        accepted(tmp_path)


def test_a_defect_whose_lines_are_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / NAMED).parent.mkdir()
    (tmp_path / "some.py").write_text("a = 1\na = 1\n")
    entry = '[[mutant]]\nname = "twice"\nmeaning = "."\nfile = "some.py"\nold = "a = 1"\nnew = ""\n'
    (tmp_path / NAMED).write_text(entry)
    with pytest.raises(StaleEntryError, match=r"twice: some\.py has 2 of 'a = 1'"):
        named(tmp_path)[0].mutant(tmp_path)
