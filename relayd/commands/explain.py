"""`relayd explain`: why somebody does or does not get through the running relay."""

from typing import Annotated

import typer
from rich.console import Console

from relayd.admin.answers import ExplainedChange
from relayd.commands.asking import print_json, running_relay
from relayd.commands.options import AsJson, Config


def explain(
    target: Annotated[str, typer.Argument(help="A user token, a session's id or token, an IP address or IP:port.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Prints what was found, what to do about it, and what happened recently.

    Raises:
        UnavailableError: no relay answers.
        UsageError: the target is nothing that there can be.
    """
    explanation = running_relay(config).explain(target)
    if as_json:
        print_json(explanation.fields())
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in explanation.findings:
        console.print(f"{finding.code}{'' if finding.current else ' (earlier)'}")
        console.print(f"    {finding.sentence}")
        if finding.advice:
            console.print(f"    → {finding.advice}")
    if explanation.changes:
        console.print("recently")
    for change in explanation.changes:
        console.print(f"    {change.seconds_ago:.1f} s ago  {_in_words(change)}")


def _in_words(change: ExplainedChange) -> str:
    who = f"user {change.user}, " if change.user else ""
    where = f", {change.port} port, {change.address}" if change.port else ""
    often = f", {change.times} times" if change.times > 1 else ""
    return f"{who}{change.what}, session {change.session_id}{where}{often}"
