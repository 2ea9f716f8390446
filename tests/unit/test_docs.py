"""The pages that are made from the code are up to date, and links lead somewhere."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayd.admin.explain.causes import Cause
from tests.support.pages import FOLDER, NAMES, ROOT, prose, text_of


def _pages() -> dict[str, Callable[[], str]]:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec.loader.exec_module(module)
    pages: dict[str, Callable[[], str]] = module.PAGES
    return pages


@pytest.mark.parametrize("name", _pages())
def test_page_says_what_the_code_does(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == _pages()[name](), "run: python docs/generate.py"


def _cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row)) - 1


@pytest.mark.parametrize("page", NAMES)
def test_every_row_has_as_many_cells_as_the_head_of_its_table(page: str) -> None:
    tables = re.findall(r"^\|.*\n\|[-:| ]+\|\n(?:.*\S.*\n)*", prose(text_of(page)), re.MULTILINE)
    rows = [(row, table.splitlines()[0]) for table in tables for row in table.splitlines()]
    wrong = [
        row for row, head in rows if _cells(row) != _cells(head) or not (row.startswith("|") and row.endswith("|"))
    ]
    assert not wrong


def test_every_cause_is_in_the_table_of_troubleshooting() -> None:
    page = text_of("docs/troubleshooting.md")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == [one.value for one in Cause]


def _anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def _targets(page: str) -> Iterator[tuple[str, Path, str]]:
    """Each link to a file of the project: as it is written, the file, the anchor."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text_of(page))):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield link, ((ROOT / page).parent / path).resolve() if path else ROOT / page, anchor


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_somewhere(page: str) -> None:
    wrong = [
        link
        for link, path, anchor in _targets(page)
        if not path.exists() or (anchor and anchor not in _anchors(path.read_text(encoding="utf-8")))
    ]
    assert not wrong


def test_every_page_is_linked() -> None:
    linked = {path for page in NAMES for _, path, _ in _targets(page) if path != ROOT / page}
    assert [page for page in NAMES if ROOT / page not in linked and page != "README.md"] == []
