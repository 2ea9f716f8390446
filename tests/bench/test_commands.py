"""The commands as they are typed: files, words and exit status."""

from pathlib import Path

import pytest

from bench import __main__, commands, everything
from bench.headline import headlines
from bench.measurement import Effort, Measurement
from bench.registry import COMPARED
from bench.results import Results
from bench.scenario import Unavailable
from tests.bench.fakes import results, series
from tests.bench.test_chart import headline_results


class Headlines:
    """A scenario that gives all headlines of a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def subjects(self, effort: Effort) -> list[str]:
        return ["relayd", "nginx"]

    def measure(self, subject: str, effort: Effort) -> list[Measurement]:
        if subject == "nginx":
            raise Unavailable("nginx is not installed")
        return [
            Measurement(h.scenario, subject, h.metric, "µs", 1.0, "lower", h.point)
            for h in headlines()
            if h.scenario == self._name
        ]


@pytest.fixture(autouse=True)
def _no_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made up sends nothing, so it needs no network of its own, nor root."""
    monkeypatch.setattr(commands, "enter", lambda command: None)


@pytest.fixture
def _scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(COMPARED):
        monkeypatch.delitem(COMPARED, name)
    for name in ("throughput", "cost", "latency"):
        monkeypatch.setitem(COMPARED, name, Headlines(name))
    monkeypatch.setattr(everything, "debian_package", lambda name: "" if name == "coturn" else "1.0")


@pytest.mark.usefixtures("_scenarios")
def test_all_writes_data_tables_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    assert commands.main(["all", "--quick", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["latest.json", "latest.md", "latest.png"]
    found = Results.load(out / "latest.json")
    assert found.scenarios() == ["throughput", "cost", "latency"]
    assert (found.quick, found.rounds, found.discarded_rounds) == (True, 1, 0)
    assert found.commands == ("python -m bench all --out DIR --quick --budget-seconds 300",)
    said = capsys.readouterr()
    assert "## throughput" in said.out
    assert "Not installed: coturn; what needs that is left out. On Debian: apt-get install coturn" in said.err
    assert "Left out: cost, nginx: nginx is not installed" in said.err


@pytest.mark.usefixtures("_scenarios")
def test_a_full_run_keeps_three_rounds_of_four(tmp_path: Path) -> None:
    assert commands.main(["all", "--out", str(tmp_path), "--only", "cost", "--name", "mine"]) == 0
    found = Results.load(tmp_path / "mine.json")
    assert found.scenarios() == ["cost"]
    assert (found.quick, found.rounds, found.discarded_rounds) == (False, 3, 1)
    assert {len(one.values) for one in found.series} == {3}
    assert found.commands == ("python -m bench all --out DIR --budget-seconds 780 --only cost",)


@pytest.mark.usefixtures("_scenarios")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["all"], "--out"),
        (["all", "--out", "{}", "--only", "chess"], "bench: there is no scenario 'chess'; there are: throughput, cost"),
        (["all", "--out", "{}", "--budget-seconds", "0"], "--budget-seconds"),
        (["all", "--out", "{}/file/below"], "file/below: Not a directory"),
        (["compare", "{}/file"], "after"),
        (["compare", "{}/file", "{}/file"], "is no JSON"),
        (["compare", "{}/none", "{}/file"], "none: cannot be read: No such file or directory"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    (tmp_path / "file").write_text("hello", encoding="utf-8")
    assert commands.main([argument.format(tmp_path) for argument in arguments]) == 64
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_where_nothing_can_be_measured_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NeedsRoot(Headlines):
        def subjects(self, effort: Effort) -> list[str]:
            raise Unavailable("needs root")

    monkeypatch.setitem(COMPARED, "cost", NeedsRoot("cost"))
    assert commands.main(["all", "--quick", "--only", "cost", "--out", str(tmp_path)]) == 69
    assert "Left out: cost: needs root" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_picture_of_earlier_results_does_not_stay(tmp_path: Path) -> None:
    everything.write(headline_results("relayd"), tmp_path, "a")
    assert (tmp_path / "a.png").exists()
    everything.write(results(series("burst", "relayd", "loss", [0.0])), tmp_path, "a")
    assert not (tmp_path / "a.png").exists()


def test_compare_prints_and_ends_with_0_also_when_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    results(series("cost", "relayd", "CPU", [1.0, 1.0, 1.0])).save(before)
    results(series("cost", "relayd", "CPU", [2.0, 2.0, 2.0])).save(after)
    assert commands.main(["compare", str(before), str(after)]) == 0
    assert "+100.0% worse" in capsys.readouterr().out


def test_readme_is_renewed_from_the_newest_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("# relayd\n\n## More\n", encoding="utf-8")
    assert commands.main(["readme"]) == 64, "there are no results yet"
    (tmp_path / commands.RESULTS).mkdir(parents=True)
    headline_results("relayd").save(tmp_path / commands.RESULTS / "latest.json")
    assert commands.main(["readme"]) == 0
    assert "![" in page.read_text(encoding="utf-8")


def test_the_entry_point_knows_commands_and_scenarios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["nonsense"], ["compare"]):
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        assert __main__.main() == 64
    assert "{all,compare,readme," in capsys.readouterr().err


def test_a_defect_of_a_scenario_is_not_taken_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Headlines):
        def measure(self, subject: str, effort: Effort) -> list[Measurement]:
            raise ZeroDivisionError

    monkeypatch.setitem(COMPARED, "cost", Broken("cost"))
    with pytest.raises(ZeroDivisionError):
        commands.main(["all", "--quick", "--only", "cost", "--out", str(tmp_path)])
