"""The pages that are made from the code are up to date."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from relayd.edge.explain.causes import Cause

FOLDER = Path(__file__).parents[2] / "docs"


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


def test_every_cause_is_in_the_table_of_troubleshooting() -> None:
    page = (FOLDER / "troubleshooting.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == [one.value for one in Cause]
