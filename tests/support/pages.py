"""The documentation as tests read it: which pages there are, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
NAMES = [str(page.relative_to(ROOT)) for page in sorted([*ROOT.glob("*.md"), *FOLDER.rglob("*.md")])]
"""All pages, as paths from the root of the repository."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def text_of(page: str) -> str:
    """The whole page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    """What stands between fences of that language."""
    return [found[2] for found in _FENCED.finditer(text) if found[1] == language]


def prose(text: str) -> str:
    """All but what stands between fences."""
    return _FENCED.sub("", text)


def spans(text: str) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(text))]
