"""The section of the README that shows the newest results: ``python -m bench readme``."""

import re
from collections.abc import Iterator

from bench import markdown
from bench.headline import headlines, measured_panels
from bench.markdown import column
from bench.results import Results
from relayd.errors import UsageError

BEGIN = "<!-- measured: python -m bench readme -->"
END = "<!-- end of measured -->"
_SECTION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n\n", re.DOTALL)
_BEFORE = "## More"
"""Where the section goes if it is not there yet."""


def updated(readme: str, results: Results, path: str) -> str:
    """The README with a new section.

    ``path`` with ``.png`` is the chart and with ``.md`` the page of all tables, seen from the README. Raises UsageError
    if the results have none of the figures that the section shows.
    """
    if not measured_panels(results):
        raise UsageError("the results have none of the figures that the README shows")
    without = _SECTION.sub("", readme)
    at = without.index(f"{_BEFORE}\n")
    return without[:at] + "\n".join(_section(results, path)) + "\n\n" + without[at:]


def _section(results: Results, path: str) -> Iterator[str]:
    yield BEGIN
    yield "## Measured"
    yield ""
    yield f"![Highest rate, processor time and added delay of relayd and others]({path}.png)"
    yield ""
    found = [(headline, headline.by_subject(results)) for headline in headlines()]
    yield from markdown.table([column(headline.title, by_subject) for headline, by_subject in found if by_subject])
    yield ""
    yield markdown.conditions(results)
    yield f"**Bold**: the best peer. [All tables]({path}.md). `make bench` measures your machine."
    yield END
