"""What the pages name exists: commands, settings, metrics, verdicts, log lines."""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from relayd import settings
from relayd.admin.explain.causes import Cause
from relayd.cli import COMMANDS, cli, load
from relayd.control_plane.api.application import document
from relayd.core.events import EventKind
from relayd.core.usage import UsageRecord
from relayd.core.verdict import Verdict
from tests.support.pages import NAMES, ROOT, blocks, spans, text_of

SECTIONS = settings.Settings.model_fields
KEYS = {f"{section}.{key}" for section, field in SECTIONS.items() for key in type(field.default).model_fields}
NO_KEYS = (".toml", ".service", ".example", ".jsonl", ".journal")
"""Ends of file and host names."""
IN_A_SESSION = {"relay.ip", "relay.host", "relay.ports"}
ELSEWHERE = {
    "interval_jitter_seconds",
    "ip_forward",  # a sysctl
    "control_plane",  # a value of source.kind
    "per_address",  # a value of limits.connection_id_policy
}

pages = pytest.mark.parametrize("page", NAMES)


def _commands(text: str) -> Iterator[str]:
    """What follows the name of the program, in code."""
    lines = [*spans(text), *(line for block in blocks(text) for line in block.splitlines())]
    for line in lines:
        for part in re.split(r"&&|;|\(", line.partition("  #")[0]):
            found = re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?relayd (?=[a-z-])(\S+(?: .*)?)", part)
            if found is not None:
                yield found[1]


def _wrong_with(line: str) -> str:
    """Why a command line is none that there is; empty if it is one."""
    command: Any = typer.main.get_command(cli)
    words = iter(line.partition(" >")[0].split())
    for word in words:
        commands = getattr(command, "commands", {})
        if word.startswith("--"):
            option = next((one for one in command.params if word in one.opts), None)
            if option is None:
                return f"{command.name} has no option {word}"
            if not option.is_flag:
                next(words, None)
        elif word.strip("…") and word.islower() and commands:
            if word not in commands:
                return f"{command.name} has no command {word}"
            command = load(word) if commands.keys() == COMMANDS.keys() else commands[word]
    return ""


@pages
def test_every_command_exists(page: str) -> None:
    wrong = {line: _wrong_with(line) for line in _commands(text_of(page))}
    assert not {line: why for line, why in wrong.items() if why}


def test_every_command_is_told() -> None:
    rows = re.findall(r"^\| (`relayd .*?) \| ", text_of("docs/running.md"), re.MULTILINE)
    assert {span.split()[1] for row in rows for span in spans(row)} == set(COMMANDS), "docs/running.md, Commands"


def test_wrong_commands_are_found() -> None:
    assert not _wrong_with("control-plane --config FILE keys add NAME --scope nodes:write")
    assert _wrong_with("drain --undone") == "drain has no option --undone"
    assert "no command drian" in _wrong_with("drian")
    assert "no command remove" in _wrong_with("control-plane keys remove ID")
    assert list(_commands("`relayd top` \n```\n(umask 077; relayd drain --wait && relayd check)\n```\n")) == [
        "top",
        "drain --wait ",
        "check)",
    ]


@pages
def test_every_setting_exists(page: str) -> None:
    key = re.compile(rf"(?<![\w./-])(?:{'|'.join(SECTIONS)})\.\w+(?![\w(])")
    named = {found for span in spans(text_of(page)) for found in key.findall(span)}
    assert {name for name in named if not name.endswith(NO_KEYS)} - IN_A_SESSION <= KEYS


@pages
def test_every_configuration_is_valid(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(settings.ENV_PREFIX)]:
        monkeypatch.delenv(name)
    for block in blocks(text_of(page), "toml"):
        file = tmp_path / "relayd.toml"
        file.write_text(block, encoding="utf-8")
        settings.load(file)


@pages
def test_every_json_is_valid(page: str) -> None:
    for block in blocks(text_of(page), "json"):
        json.loads(block)


def _metrics() -> dict[str, str]:
    """Name of each metric and its labels, from the page that is made from the code."""
    rows = re.findall(r"^\| `(relayd_\w+)` \| (\w+) \| (.*?) \| ", text_of("docs/metrics.md"), re.MULTILINE)
    metrics = {name: labels for name, _, labels in rows}
    for name, kind, labels in rows:
        if kind == "histogram":
            metrics |= dict.fromkeys((f"{name}_bucket", f"{name}_sum", f"{name}_count"), labels)
    return metrics


@pages
def test_every_metric_exists(page: str) -> None:
    metrics = _metrics()
    for name, inside in re.findall(r"(?<![\w./-])(relayd_[a-z_]+)(?:\{([^}]*)\})?", text_of(page)):
        assert name in metrics
        for label, _, value in (part.partition("=") for part in filter(None, inside.split(","))):
            assert f"`{label}`" in metrics[name]
            known = {verdict.label for verdict in Verdict} if label == "verdict" else metrics[name]
            assert not value or value.strip('"') in known


def _fields(schema: object) -> set[str]:
    """Names of all fields below, however deep."""
    if isinstance(schema, list):
        return {name for part in schema for name in _fields(part)}
    if not isinstance(schema, dict):
        return set()
    return {*schema.get("properties", ()), *(name for part in schema.values() for name in _fields(part))}


@pytest.mark.parametrize("page", [name for name in NAMES if name.startswith("docs/")])
def test_every_word_in_code_exists(page: str) -> None:
    """Verdicts, causes, settings, metrics, fields of the API: whatever is one word with underscores."""
    known = {verdict.label for verdict in Verdict} | {cause.value for cause in Cause} | _metrics().keys()
    known |= {part for key in KEYS for part in key.split(".")} | _fields(document()) | ELSEWHERE
    known |= set(UsageRecord._fields)
    words = {span.strip('"') for span in spans(text_of(page))}
    assert {word for word in words if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)} <= known


def _routes() -> Iterator[str]:
    """Of the admin server, from the decorators of what answers."""
    for file in (ROOT / "relayd" / "admin").rglob("*.py"):
        for method, path in re.findall(r'^ *@\w+\.(get|post|put|delete)\("([^"]+)"', text_of(str(file)), re.MULTILINE):
            yield f"{method.upper()} {path.replace('{session_id}', 'ID')}"


def test_every_request_of_the_admin_server_is_told() -> None:
    rows = re.findall(r"^\| (`(?:GET|POST|PUT|DELETE) .*?) \| ", text_of("docs/running.md"), re.MULTILINE)
    told = {span.partition("?")[0] for row in rows for span in spans(row)}
    assert told == set(_routes())


def _strings_of_the_program() -> set[str]:
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "relayd").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_log_line_exists() -> None:
    told = {event for page in NAMES for event in re.findall(r'"event": "([^"]*)"', text_of(page))}
    assert told
    assert told <= _strings_of_the_program() | {kind.value for kind in EventKind}
