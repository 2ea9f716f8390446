"""Writes the pages of docs/ that are made from the code: ``python docs/generate.py``; see `main` for ``--check``."""

import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from api_page import api_page
from metrics_page import metrics_page
from pydantic_core import PydanticUndefined

from relayd.core import verdict as verdicts
from relayd.core.verdict import REFUSAL_STATE, Verdict
from relayd.forwarding.generated.comments import texts_below
from relayd.settings import Settings

_FOLDER = Path(__file__).parent

_SETTINGS_INTRODUCTION = """\
# Settings

TOML, from `--config FILE`, else `/etc/relayd/relayd.toml` if it is there. Every key is also an environment variable,
`RELAYD_` and the upper-case path with `__`, such as `RELAYD_RELAY__SERVER_PORT`; it overrides the file, and lists are
written in it as JSON. Paths in the file are relative to the file, in the environment to the working directory. A key
that is unknown or out of range is an error that names it: exit status 78.

This page is written by `docs/generate.py` from `relayd/settings.py`.
"""

_WAY_OUT = {
    Verdict.FORWARDED: "",
    Verdict.ANSWERED: "",
    Verdict.TOO_SHORT: "Something else than a game sends to this port, or a host sends to the client port.",
    Verdict.TOO_LONG: "Lower the transport's MTU: payloads may have 1,187 bytes.",
    Verdict.UNKNOWN_TYPE: "Something else than a game sends to this port.",
    Verdict.NO_PAYLOAD: "A defect of the sender: there is nothing to forward.",
    Verdict.UNKNOWN_PAIR: "Check that the user is authorized, and that user and session token are not swapped.",
    Verdict.SESSION_ENDED: "Create a new session.",
    Verdict.ADDRESS_CONFLICT: "Passes by itself after `limits.rebind_after`; if not, two programs use one user token.",
    Verdict.ADDRESS_REFUSED: "Authorize the user with the address it plays from, or turn `limits.pin_ip` off.",
    Verdict.HOST_CONFLICT: "Two programs use the server port in one session; players use the client port.",
    Verdict.NO_HOST: "Start the host, or look why it does not get through.",
    Verdict.RELAY_AWAY: "Normal while relayd restarts; else look why it is not running.",
    Verdict.OVERLOADED: "A flood, on the fast path of right tokens: `docs/abuse.md`. Look where it comes in.",
    Verdict.UNKNOWN_CONNECTION: "Normal for a moment after a player left or came back.",
    Verdict.RATE_LIMITED: "Raise `limits.user_datagrams_per_second` and the like, or find out why so much is sent.",
    Verdict.SEND_QUEUE_FULL: "The link is too slow; a larger `relay.send_buffer_bytes` helps in bursts.",
    Verdict.SEND_FAILED: "Look at routes, interfaces and the firewall of the relay host.",
    Verdict.DRAINING: "Undo the drain with `DELETE /v1/drain`, or send new games to another relay.",
    Verdict.BAD_SOURCE: "Nothing a peer sends: somebody invents senders. Look where it comes in.",
    Verdict.GUESS_LIMITED: "Passes a second after the guessing ends; authorize users with the address they play from.",
    Verdict.RELAY_FULL: "Raise `limits.max_bound_users`, or send new games to another relay.",
}


class MissingTextError(Exception):
    """A page cannot be written before somebody has written this."""


def settings_page() -> str:
    """Every setting with its default."""
    return "\n".join(_settings_lines()) + "\n"


def _settings_lines() -> Iterator[str]:
    yield from _SETTINGS_INTRODUCTION.splitlines()
    for section, section_field in Settings.model_fields.items():
        yield ""
        yield f"## [{section}]"
        yield ""
        yield "| key | default | |"
        yield "|---|---|---|"
        for key, field in type(section_field.default).model_fields.items():
            yield f"| `{key}` | {_shown(field.default)} | {field.description} |"


def _shown(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return "–"
    if isinstance(default, Enum):
        default = default.value
    return f"`{json.dumps(str(default) if isinstance(default, Path) else default)}`"


def verdicts_page() -> str:
    """Every verdict, what it means, what the sender sees, what to do."""
    return "\n".join(_verdict_lines()) + "\n"


def _verdict_lines() -> Iterator[str]:
    yield "# Verdicts"
    yield ""
    yield "What can become of a datagram that reaches the relay. Each is counted under exactly one, in"
    yield "`relayd_datagrams_total{port,verdict}` and `relayd_bytes_total{port,verdict}`; drops also per session, in"
    yield "`relayd session ID` and `GET /v1/sessions/{session_id}`."
    yield ""
    yield "This page is written by `docs/generate.py` from `relayd/core/verdict.py`."
    yield ""
    yield "| verdict | meaning | sender is told | what to do |"
    yield "|---|---|---|---|"
    texts = texts_below(verdicts)
    for verdict in Verdict:
        if verdict.name not in texts:
            raise MissingTextError(f"relayd/core/verdict.py: {verdict.name} needs a sentence below it: what it means")
        if verdict not in _WAY_OUT:
            raise MissingTextError(f"docs/generate.py: _WAY_OUT needs a line for {verdict.name}: what to do about it")
        told = REFUSAL_STATE.get(verdict)
        state = "Valid" if verdict is Verdict.ANSWERED else told.name.replace("_", " ").capitalize() if told else "–"
        # A row is one line, however many the text has in the code.
        meaning = " ".join(texts[verdict.name].split())
        yield f"| `{verdict.label}` | {meaning} | {state} | {_WAY_OUT[verdict]} |"


PAGES = {
    "api.md": api_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
    "verdicts.md": verdicts_page,
}


def main(arguments: list[str]) -> int:
    """Returns the exit status: of a page for which a text is missing nothing is written.

    With ``--check`` nothing is written at all, and every page that is not current is named.
    """
    said = []
    for name, page in PAGES.items():
        path = _FOLDER / name
        try:
            text = page()
        except MissingTextError as error:
            said.append(str(error))
            continue
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            said.append(f"docs/{name} is not what the code gives: run make generate")
    sys.stderr.write("".join(f"{line}\n" for line in said))
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
