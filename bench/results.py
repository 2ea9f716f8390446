"""A file of results: every value of every run, and what they were measured on."""

import json
import statistics
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from bench.machine import Machine
from bench.measurement import Measurement
from relayd.errors import UsageError

Better = Literal["lower", "higher", "none"]

FORMAT: Literal["relayd-bench-results/1"] = "relayd-bench-results/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(NamedTuple):
    """What tells one figure of a file from all others of it, and is the same in another file."""

    scenario: str
    subject: str
    metric: str
    point: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.subject}: {self.metric}{f', {self.point}' if self.point else ''}"


class Series(_Strict):
    """All values of one figure that count, in the order they were measured."""

    scenario: str
    subject: str
    metric: str
    point: str
    unit: str
    better: Better
    values: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]

    @classmethod
    def of(cls, measurements: list[Measurement]) -> Self:
        """The series of the same figure in several runs."""
        fields = measurements[0]._asdict()
        del fields["value"]
        return cls(**fields, values=tuple(measurement.value for measurement in measurements))

    @property
    def figure(self) -> Figure:
        """What was measured."""
        return Figure(self.scenario, self.subject, self.metric, self.point)

    @property
    def median(self) -> float:
        """The value that stands for the series."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Highest minus lowest. With three to five values, nothing finer says more."""
        return max(self.values) - min(self.values)


class LeftOut(_Strict):
    """A subject that has no figures, and why."""

    scenario: str
    subject: str
    """Empty: the whole scenario."""
    reason: str

    def __str__(self) -> str:
        return f"{self.scenario}{f', {self.subject}' if self.subject else ''}: {self.reason}"


class Results(_Strict):
    """All that one run of the benchmark gives."""

    format: Literal["relayd-bench-results/1"] = FORMAT
    measured_at: AwareDatetime
    machine: Machine
    commands: tuple[str, ...]
    """What to type to measure the same."""
    window_seconds: float
    """Of each window of measurement."""
    rounds: int
    """That count, as far as there was time."""
    discarded_rounds: int
    quick: bool
    series: tuple[Series, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    """What else one has to know, such as that the time was not enough for all rounds."""

    @model_validator(mode="after")
    def _no_figure_twice(self) -> Self:
        seen: set[Figure] = set()
        for series in self.series:
            if series.figure in seen:
                raise ValueError(f"two series of the same figure: {series.figure}")
            seen.add(series.figure)
        return self

    def scenarios(self) -> list[str]:
        """In the order they were measured, with those that were left out."""
        names = [series.scenario for series in self.series] + [left_out.scenario for left_out in self.left_out]
        return list(dict.fromkeys(names))

    @property
    def day(self) -> str:
        """When it was measured, as a date."""
        return datetime.date(self.measured_at).isoformat()

    def save(self, path: Path) -> None:
        """Writes the file."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file; raises UsageError with one sentence if it is no file of results."""
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise UsageError(f"{path}: is no JSON; `python -m bench all` writes the files that are meant") from None
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise UsageError(f"{path}: is no file of results: its format is {found!r} instead of {FORMAT!r}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(f"{path}: is a damaged file of results: {where}: {first['msg']}") from None
