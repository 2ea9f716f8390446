"""How figures are written everywhere: three digits, since runs differ in the third."""

import math
from collections.abc import Sequence
from statistics import median


def shown(value: float) -> str:
    """Three significant digits, thousands set apart, no exponent."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def shown_range(values: Sequence[float]) -> str:
    """Lowest to highest."""
    return f"{shown(min(values))}–{shown(max(values))}"


def shown_series(values: Sequence[float]) -> str:
    """The median, and the range if there is more than one value."""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(median(values))} ({shown_range(values)})"
