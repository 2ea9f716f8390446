"""The README shows the newest results, all of them and no others."""

import pytest
from PIL import Image

from bench import chart
from bench.commands import LATEST, RESULTS, ROOT
from bench.markdown import page
from bench.readme import BEGIN, END, updated
from bench.results import Results
from relayd.errors import UsageError
from tests.bench.fakes import results, series
from tests.bench.test_chart import headline_results

TEXT = "# relayd\n\nA relay.\n\n## More\n\n- Links\n"


def test_the_readme_shows_the_newest_results() -> None:
    """Also while there are none: then it must not show any."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    newest = ROOT / RESULTS / f"{LATEST}.json"
    if not newest.exists():
        assert BEGIN not in readme
        return
    found = Results.load(newest)
    assert readme == updated(readme, found, f"{RESULTS}/{LATEST}"), "run: python -m bench readme"
    assert newest.with_suffix(".md").read_text(encoding="utf-8") == page(found), "run: make bench"
    with Image.open(newest.with_suffix(".png")) as picture:
        assert picture.info["Source"] == chart.digest(found), "run: make bench"
    assert not found.quick, "a quick run is no measurement"


def test_the_section_stands_before_the_links_with_chart_table_and_machine() -> None:
    text = updated(TEXT, headline_results("relayd", "nginx"), "bench/results/latest")
    before, _, rest = text.partition(BEGIN)
    section, _, after = rest.partition(END)
    assert (before, after) == ("# relayd\n\nA relay.\n\n", "\n\n## More\n\n- Links\n")
    assert "](bench/results/latest.png)" in section
    assert "](bench/results/latest.md)" in section
    assert "| relayd | 1.50 (1.00–2.00) | " in section
    assert "Processor X, 2 cores" in section


def test_the_section_is_replaced_and_nothing_else_is_touched() -> None:
    once = updated(TEXT, headline_results("relayd", "nginx"), "a")
    assert updated(once, headline_results("relayd", "nginx"), "a") == once
    assert updated(once, headline_results("coturn"), "b") == updated(TEXT, headline_results("coturn"), "b")


def test_results_without_any_of_its_figures_are_refused() -> None:
    with pytest.raises(UsageError):
        updated(TEXT, results(series("burst", "relayd", "loss", [0.0])), "a")
