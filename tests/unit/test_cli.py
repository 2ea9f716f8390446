"""The command line as a whole: what it knows, what it loads, how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from relayd import commands
from relayd.cli import COMMANDS, load, main

SHARED = {"__init__", "asking", "options"}
"""Modules of relayd/commands that are no commands."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(name).help
    assert main([name, "--help"]) == 0
    assert f"relayd {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_imports_what_it_needs_by_itself(name: str) -> None:
    """Among all tests, what one module lacks another has imported already."""
    program = f"from relayd.cli import load; load({name!r})"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_every_module_is_a_command() -> None:
    (folder,) = commands.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")} - SHARED
    assert modules == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_no_command_is_loaded_before_it_is_called(arguments: list[str]) -> None:
    """What takes long to import is not: a relay that starts has no time for other commands."""
    program = f"import sys; from relayd.cli import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "relayd.cli" in loaded
    assert not loaded & {"pydantic", "httpx", "fastapi", "uvicorn", "relayd.app", "relayd.settings"}
    assert not {name for name in loaded if name.startswith("relayd.commands.")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drian"], "No such command 'drian'. Did you mean 'drain'?"),
        (["drain", "--undone"], "No such option: --undone"),
        (["session"], "Missing argument"),
        (["top", "--interval", "0"], "Invalid value for '--interval'"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert said in capsys.readouterr().err


def test_a_bad_configuration_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "--config", "/not/there.toml"]) == 78
    assert capsys.readouterr().err == "relayd: /not/there.toml: cannot be read: No such file or directory\n"


def test_what_the_system_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("relayd.settings.load", refused)
    assert main(["sessions"]) == 1
    assert capsys.readouterr().err == "relayd: Permission denied\n"


def test_a_command_may_end_with_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(config: object = None) -> None:
        raise typer.Exit(69)

    monkeypatch.setattr("relayd.commands.check.check", check)
    assert main(["check"]) == 69
