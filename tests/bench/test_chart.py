"""The chart is a picture of the results it says it shows."""

from pathlib import Path

import pytest
from PIL import Image

from bench import chart
from bench.headline import headlines, unmeasured
from bench.results import Results
from tests.bench.fakes import results, series


def headline_results(*subjects: str, scale: float = 1.0) -> Results:
    """With a value for every headline of every subject."""
    return results(
        *(
            series(h.scenario, subject, h.metric, [scale * n, scale * (n + 1)], point=h.point)
            for h in headlines()
            for n, subject in enumerate(subjects, 1)
        )
    )


def test_is_a_png_that_says_which_results_it_shows(tmp_path: Path) -> None:
    found = headline_results("relayd", "relayd (fast path)", "nginx", "direct", "another")
    path = tmp_path / "chart.png"
    assert chart.draw(found, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert picture.info["Source"] == chart.digest(found)
    assert chart.digest(found) != chart.digest(headline_results("relayd"))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_delays_that_no_logarithm_has_are_drawn_too(tmp_path: Path, scale: float) -> None:
    assert chart.draw(headline_results("relayd", "direct", scale=scale), tmp_path / "chart.png")


def test_a_panel_of_which_part_is_missing_is_drawn(tmp_path: Path) -> None:
    only_p99 = results(series("latency", "relayd", "p99", [7.0], point="half load"))
    assert chart.draw(only_p99, tmp_path / "chart.png")


def test_without_a_headline_there_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    assert not chart.draw(results(series("burst", "relayd", "loss", [0.0])), path)
    assert not path.exists()


def test_a_headline_that_its_scenario_did_not_give_is_named() -> None:
    assert not unmeasured(headline_results("relayd"))
    renamed = results(series("cost", "relayd", "another name", [1.0]))
    assert [headline.scenario for headline in unmeasured(renamed)] == ["cost"]
