"""The headlines as a picture: a panel for each, a row for each subject, so that a row reads as one program.

matplotlib is imported only here, and only when a picture is drawn: it takes a second, and no measurement needs it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.headline import Panel, measured_panels, subjects
from bench.numbers import shown
from bench.results import Better, Results, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito, told apart with any kind of colour vision; a subject always has the same colour.
_COLOURS = {
    "relayd": "#0072B2",
    "relayd (fast path)": "#009E73",
    "relayd (plain)": "#56B4E9",
    "nginx": "#E69F00",
    "coturn": "#D55E00",
    "asyncio": "#CC79A7",
    "direct": "#999999",
}
_OTHER_COLOUR = "#555555"
_FAINT = "#666666"
_MARKERS = {"o": "●", "D": "◆"}
"""Of matplotlib, and the same as characters."""
_ROW_INCHES = 0.42
_DOTS_PER_INCH = 160
_DIRECTION: dict[Better, str] = {"lower": "lower is better", "higher": "higher is better", "none": ""}


def draw(results: Results, path: Path) -> bool:
    """Writes a PNG; False, and no file, if none of the headlines was measured."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    panels = measured_panels(results)
    if not panels:
        return False
    rows = subjects(results)
    figure = Figure(figsize=(4.3 * len(panels), 1.5 + _ROW_INCHES * len(rows)))
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1, wspace=0.04)
    every_axes: Sequence[Axes] = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(every_axes, panels, strict=True):
        _draw_panel(axes, panel, results, rows)
    every_axes[0].set_yticks(range(len(rows)), rows, fontsize=11)
    # The first subject on top.
    every_axes[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(
        f"{results.machine} · {results.day} · bars and dots: medians, lines: lowest to highest", fontsize=8
    )
    figure.savefig(path, dpi=_DOTS_PER_INCH, facecolor="white", metadata={"Source": digest(results)})
    return True


def digest(results: Results) -> str:
    """Stands in the picture, so that one can tell which results it shows."""
    return hashlib.sha256(results.model_dump_json().encode()).hexdigest()


def _draw_panel(axes: "Axes", panel: Panel, results: Results, rows: Sequence[str]) -> None:
    found = [headline.by_subject(results) for headline in panel.headlines]
    if len(found) == 1:
        _draw_bars(axes, found[0], rows)
    else:
        _draw_dots(axes, found, rows)
    example = next(series for by_subject in found for series in by_subject.values())
    axes.set_title(_title(panel), fontsize=11, loc="left", fontweight="bold", pad=10)
    axes.set_xlabel(f"{example.unit}, {_DIRECTION[example.better]}", fontsize=9, color=_FAINT)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9, colors=_FAINT)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _title(panel: Panel) -> str:
    if len(panel.headlines) == 1:
        return panel.title
    signs = zip(_MARKERS.values(), panel.headlines, strict=False)
    return f"{panel.title}: {', '.join(f'{sign} {headline.metric}' for sign, headline in signs)}"


def _draw_bars(axes: "Axes", by_subject: Mapping[str, Series], rows: Sequence[str]) -> None:
    """Bars begin at 0, so that their lengths compare as the values do."""
    values = [value for series in by_subject.values() for value in series.values]
    lowest, highest = min(0.0, *values), max(0.0, *values)
    width = highest - lowest or 1.0
    for row, subject in enumerate(rows):
        if subject not in by_subject:
            axes.text(0, row, " –", va="center", color=_FAINT)
            continue
        series = by_subject[subject]
        axes.barh(row, series.median, height=0.62, color=_colour(subject))
        axes.hlines(row, min(series.values), max(series.values), color="black", linewidth=1.2)
        axes.text(max(0.0, *series.values) + width * 0.015, row, shown(series.median), va="center", fontsize=10)
    # Room for the text behind the longest bar.
    axes.set_xlim(lowest, highest + width * 0.2)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _draw_dots(axes: "Axes", found: Sequence[Mapping[str, Series]], rows: Sequence[str]) -> None:
    """Quantiles of one thing on a logarithmic scale: the same factor is the same distance everywhere."""
    for row, subject in enumerate(rows):
        quantiles = [by_subject.get(subject) for by_subject in found]
        medians = [series.median for series in quantiles if series]
        if not medians:
            axes.text(0.0, row, " –", va="center", color=_FAINT, transform=axes.get_yaxis_transform())
            continue
        axes.hlines(row, min(medians), max(medians), color=_colour(subject), linewidth=1.5)
        for series, marker in zip(quantiles, _MARKERS, strict=False):
            if series:
                axes.hlines(row, min(series.values), max(series.values), color="black", linewidth=1.2, zorder=3)
                axes.plot(series.median, row, marker=marker, color=_colour(subject), markersize=8)
        values = [value for series in quantiles if series for value in series.values]
        for text, end, side, points in (
            (min(medians), min(values), "right", -9),
            (max(medians), max(values), "left", 9),
        ):
            axes.annotate(shown(text), (end, row), (points, 0), textcoords="offset points", va="center", ha=side)
    if all(value > 0 for by_subject in found for series in by_subject.values() for value in series.values):
        axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _colour(subject: str) -> str:
    return _COLOURS.get(subject, _OTHER_COLOUR)
