"""Scenarios and results that are made up, for the tests of what is done with them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from bench.machine import Machine
from bench.measurement import Effort, Measurement
from bench.results import Better, LeftOut, Results, Series
from bench.scenario import Unavailable

MACHINE = Machine(
    processor="Processor X", cores=2, kernel="Linux 6.1", python="CPython 3.11.2", versions={"relayd": "0.1.0 (abc)"}
)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeScenario:
    """Gives, in each run of a subject, the next of its values; `None` stands for: not available."""

    def __init__(self, name: str, values: dict[str, list[float | None]], on_run: Callable[[], None] = lambda: None):
        self._name = name
        self._values = {subject: iter(given) for subject, given in values.items()}
        self._on_run = on_run

    def subjects(self, effort: Effort) -> list[str]:
        return list(self._values)

    def measure(self, subject: str, effort: Effort) -> list[Measurement]:
        self._on_run()
        value = next(self._values[subject])
        if value is None:
            raise Unavailable(f"{subject} is not installed")
        return [Measurement(self._name, subject, "time", "µs", value, "lower")]


def series(
    scenario: str,
    subject: str,
    metric: str,
    values: Iterable[float],
    better: Better = "lower",
    point: str = "",
    unit: str = "µs",
) -> Series:
    return Series(
        scenario=scenario,
        subject=subject,
        metric=metric,
        point=point,
        unit=unit,
        better=better,
        values=tuple(values),
    )


def results(
    *given: Series, left_out: Iterable[LeftOut] = (), notes: Iterable[str] = (), machine: Machine = MACHINE
) -> Results:
    return Results(
        measured_at=datetime(2001, 2, 3, 4, 5, tzinfo=UTC),
        machine=machine,
        commands=("python -m bench all --out somewhere",),
        window_seconds=2.0,
        rounds=3,
        discarded_rounds=1,
        quick=False,
        series=given,
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
