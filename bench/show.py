"""Measurements as a table on the terminal."""

from collections.abc import Iterable, Iterator

from bench.measurement import Measurement


def table(found: Iterable[Measurement]) -> Iterator[str]:
    """Lines: a row for each metric and point, a column for each subject."""
    by_row: dict[tuple[str, str, str], dict[str, float]] = {}
    subjects: dict[str, None] = {}
    for one in found:
        by_row.setdefault((one.metric, one.point, one.unit), {})[one.subject] = one.value
        subjects[one.subject] = None
    names = [f"{metric}, {unit}" if unit else metric for metric, _, unit in by_row]
    wide = max(map(len, names), default=0) + 2
    points = max((len(point) for _, point, _ in by_row), default=0) + 2
    columns = [max(12, len(subject) + 2) for subject in subjects]
    yield " " * (wide + points) + "".join(f"{name:>{width}}" for name, width in zip(subjects, columns, strict=True))
    for name, ((_, point, _), values) in zip(names, by_row.items(), strict=True):
        cells = (number(values.get(subject)) for subject in subjects)
        yield f"{name:{wide}}{point:{points}}" + "".join(
            f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True)
        )


def number(value: float | None) -> str:
    """With as many digits as mean anything."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
