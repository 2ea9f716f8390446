"""How figures are written everywhere: short, and never finer than they can be read."""

from collections.abc import Sequence
from statistics import median


def shown(value: float) -> str:
    """Three significant digits, or all digits before the point with thousands set apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def shown_range(values: Sequence[float]) -> str:
    """Lowest to highest."""
    return f"{shown(min(values))}–{shown(max(values))}"


def shown_series(values: Sequence[float]) -> str:
    """The median, and the range if there is more than one value."""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(median(values))} ({shown_range(values)})"
