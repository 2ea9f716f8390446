"""A file of results comes back as it was, and anything else is refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.results import FORMAT, LeftOut, Results
from relayd.errors import UsageError
from tests.bench.fakes import results, series

GOOD = results(
    series("cost", "relayd", "CPU", [4.1, 4.0, 4.25], point="50k/s"),
    series("cost", "relayd", "CPU", [5.0], point="100k/s"),
    left_out=[LeftOut(scenario="cost", subject="nginx", reason="nginx is not installed")],
    notes=["The time was over."],
)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    GOOD.save(path)
    assert Results.load(path) == GOOD


def test_knows_its_scenarios_in_order_also_those_left_out() -> None:
    found = results(
        series("cost", "relayd", "CPU", [1.0]),
        series("burst", "relayd", "loss", [1.0]),
        left_out=[LeftOut(scenario="flood", subject="", reason="needs root")],
    )
    assert found.scenarios() == ["cost", "burst", "flood"]


def _refusal(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        Results.load(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert _refusal(path) == f"{path}: cannot be read: No such file or directory"


@pytest.mark.parametrize("content", [b"# Results\n", b"", b"\xff\xfe", b"{"])
def test_a_file_that_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert "is no JSON" in _refusal(path)


@pytest.mark.parametrize("content", ["[]", "3", '{"sessions": []}', '{"format": "relayd-bench-results/2"}'])
def test_a_foreign_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert "is no file of results" in _refusal(path)
    assert FORMAT in _refusal(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"series": [{"scenario": "cost"}]}, "series.0.subject"),
        ({"measured_at": "yesterday"}, "measured_at"),
        ({"colour": "red"}, "colour"),
        ({"series": [series("a", "b", "c", [1.0]).model_dump()] * 2}, "two series of the same figure: a, b: c"),
    ],
)
def test_a_damaged_file_names_the_damage(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(GOOD.model_dump_json()) | change), encoding="utf-8")
    assert "is a damaged file of results" in _refusal(path)
    assert said in _refusal(path)


def test_values_must_be_numbers_and_there_must_be_one(tmp_path: Path) -> None:
    for text in ('"values": []', '"values": [NaN]', '"values": [1e999]'):
        path = tmp_path / "a.json"
        path.write_text(
            results(series("a", "b", "c", [7.0])).model_dump_json().replace('"values":[7.0]', text), encoding="utf-8"
        )
        assert "values" in _refusal(path)
